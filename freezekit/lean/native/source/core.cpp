// Lean's rules as kernels of a dispatch key, and the Python module `core` that switches the key on.
//
// torch's own function runs first, below the key. Then its node of autograd is told to hold
// something smaller. The rules are those of freezekit/lean/rules/, and so are the results; the
// tests of lean run both.
#include <ATen/RedispatchFunctions.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/utils/object_ptr.h>
#include <torch/library.h>

#include "norm.h"
#include "pooling.h"
#include "recomputing.h"

namespace freezekit {
namespace {

namespace nodes = torch::autograd::generated;
using Keys = c10::DispatchKeySet;
using Ints = at::IntArrayRef;
using SymInts = c10::SymIntArrayRef;
using MaybeTensor = std::optional<Tensor>;

// The keys below the rules: a function that has no use for its rule goes on there.
Keys after(Keys keys) { return keys & Keys(Keys::FULL_AFTER, RULES); }

// The keys below both: for a function of which it is known that it takes nothing to compute again.
Keys after_both(Keys keys) { return keys & Keys(Keys::FULL_AFTER, WATCH); }

// --- the gradient needs the shape
// ---------------------------------------------------------------------

Tensor convolution(Keys keys, const Tensor& image, const Tensor& weight, const MaybeTensor& bias,
                   SymInts stride, SymInts padding, SymInts dilation, bool transposed,
                   SymInts output_padding, c10::SymInt groups) {
  session.pack_dead();
  const bool may = may_act();
  const bool takes_known = may && (session.recomputed(image) || session.recomputed(weight));
  const bool acts = may && !needs_grad(weight) && (needs_grad(image) || needs_grad(bias)) &&
                    is_eligible(image) && is_plain(weight);
  const auto run = [&] {
    Stock stock;
    return at::convolution_symint(image, weight, bias, stride, padding, dilation, transposed,
                                  output_padding, groups);
  };
  if (!acts && takes_known) {
    auto out = run();
    hold_known(out, &nodes::ConvolutionBackward0::input_, &nodes::ConvolutionBackward0::weight_);
    return out;
  }
  if (!acts)
    return at::redispatch::convolution_symint(after_both(keys), image, weight, bias, stride,
                                              padding, dilation, transposed, output_padding,
                                              groups);
  const auto dilations = C10_AS_INTARRAYREF_SLOW(dilation);
  const bool reads = probably_reads_input(image, weight, bias, dilations, groups.expect_int());
  auto out = run();
  Stock stock;
  hold_shape(out, &nodes::ConvolutionBackward0::input_, reads, [&] {
    auto seed = mix(mix_layout(mix(0, weight.sizes()), weight), dilations);
    seed = mix(mix(seed, C10_AS_INTARRAYREF_SLOW(stride)), C10_AS_INTARRAYREF_SLOW(padding));
    return mix(mix(seed, size_t(groups.expect_int())), transposed + 2 * size_t(needs_grad(bias)));
  });
  return out;
}

// Pooling and padding: `run` with the input and what else it takes.
template <class N, class Redispatch, class Run>
Tensor shape_only(const Tensor& image, const Redispatch& redispatch, const Run& run) {
  session.pack_dead();
  if (!may_act() || !needs_grad(image) || !is_eligible(image)) return redispatch();
  Stock stock;
  auto out = run();
  hold_shape(out, &N::self_, false, [&] { return size_t(image.dim()); });
  return out;
}

template <class N, auto redispatch, auto run, class... Args>
Tensor shape_rule(Keys keys, const Tensor& image, Args... args) {
  return shape_only<N>(
      image, [&] { return redispatch(after(keys), image, args...); },
      [&] { return run(image, args...); });
}

template <class N, auto redispatch, auto run, size_t dimensions>
std::tuple<Tensor, Tensor> max_pool_with_indices(Keys keys, const Tensor& image, Ints kernel,
                                                 Ints stride, Ints padding, Ints dilation,
                                                 bool ceil_mode) {
  session.pack_dead();
  const bool drops_indices = std::exchange(session.drops_indices, false);
  if (!may_act() || !needs_grad(image) || !is_eligible(image))
    return redispatch(after(keys), image, kernel, stride, padding, dilation, ceil_mode);
  Stock stock;
  auto found = run(image, kernel, stride, padding, dilation, ceil_mode);
  const auto& out = std::get<0>(found);
  if (auto* node = out.requires_grad() ? dynamic_cast<N*>(out.grad_fn().get()) : nullptr;
      node && drops_indices) {
    // Indices that the model gets are alive anyway; positions would be held besides.
    Window window(image, kernel, stride, padding, dilation, dimensions);
    if (window.fits_byte())
      hold(node->result1_, std::make_shared<SavedIndices>(std::get<1>(found), std::move(window)));
  }
  hold_shape(out, &N::self_, false, [&] { return mix(mix(0, kernel), stride); });
  return found;
}

// The functions that return no indices end in one of the above.
template <auto redispatch>
Tensor max_pool(Keys keys, const Tensor& image, Ints kernel, Ints stride, Ints padding,
                Ints dilation, bool ceil_mode) {
  session.drops_indices = session.depth > 0;
  auto out = redispatch(after(keys), image, kernel, stride, padding, dilation, ceil_mode);
  session.drops_indices = false;
  return out;
}

Tensor batch_norm(Keys keys, const Tensor& image, const MaybeTensor& weight,
                  const MaybeTensor& bias, const MaybeTensor& mean, const MaybeTensor& variance,
                  bool training, double momentum, double eps, bool cudnn) {
  session.pack_dead();
  const bool acts = may_act() && !training && mean && mean->defined() && variance &&
                    variance->defined() && !needs_grad(weight) &&
                    (needs_grad(image) || needs_grad(bias)) && is_eligible(image) &&
                    is_plain(*mean) && is_plain(*variance) && !has_tangent(image) &&
                    !(bias && has_tangent(*bias));
  if (!acts)
    return at::redispatch::batch_norm(after(keys), image, weight, bias, mean, variance, training,
                                      momentum, eps, cudnn);
  return fixed_batch_norm(image, weight, bias, *mean, *variance, eps, [&] {
    return at::batch_norm(image, weight, bias, mean, variance, training, momentum, eps, cudnn);
  });
}

// With batch statistics it saves its input, as stock does.
std::tuple<Tensor, Tensor, Tensor> native_batch_norm(Keys keys, const Tensor& image,
                                                     const MaybeTensor& weight,
                                                     const MaybeTensor& bias,
                                                     const MaybeTensor& mean,
                                                     const MaybeTensor& variance, bool training,
                                                     double momentum, double eps) {
  if (!may_act() || !session.recomputed(image))
    return at::redispatch::native_batch_norm(after_both(keys), image, weight, bias, mean, variance,
                                             training, momentum, eps);
  Stock stock;
  auto found = at::native_batch_norm(image, weight, bias, mean, variance, training, momentum, eps);
  hold_known(std::get<0>(found), &nodes::NativeBatchNormBackward0::input_);
  return found;
}

// --- the gradient needs one bit
// -----------------------------------------------------------------------

Tensor relu(Keys keys, const Tensor& image) {
  session.pack_dead();
  if (!can_hold_bits(image, false)) return at::redispatch::relu(after(keys), image);
  return hold_bits(image, relu_activation(), "ReluBackward0", false,
                   [](const Tensor& x) { return at::relu(x); });
}

Tensor& relu_(Keys keys, Tensor& image) {
  session.pack_dead();
  if (!can_hold_bits(image, true)) return at::redispatch::relu_(after(keys), image);
  hold_bits(image, relu_activation(), "ReluBackward0", true, [](Tensor x) { return at::relu_(x); });
  return image;
}

bool is_bounded(const at::Scalar& low, const at::Scalar& high) {
  return std::isfinite(low.toDouble()) && std::isfinite(high.toDouble());
}

Tensor hardtanh(Keys keys, const Tensor& image, const at::Scalar& low, const at::Scalar& high) {
  session.pack_dead();
  if (!is_bounded(low, high) || !can_hold_bits(image, false))
    return at::redispatch::hardtanh(after(keys), image, low, high);
  return hold_bits(image, hardtanh_activation(low.toDouble(), high.toDouble()), "HardtanhBackward0",
                   false, [&](const Tensor& x) { return at::hardtanh(x, low, high); });
}

Tensor& hardtanh_(Keys keys, Tensor& image, const at::Scalar& low, const at::Scalar& high) {
  session.pack_dead();
  if (!is_bounded(low, high) || !can_hold_bits(image, true))
    return at::redispatch::hardtanh_(after(keys), image, low, high);
  hold_bits(image, hardtanh_activation(low.toDouble(), high.toDouble()), "HardtanhBackward0", true,
            [&](Tensor x) { return at::hardtanh_(x, low, high); });
  return image;
}

Tensor hardsigmoid(Keys keys, const Tensor& image) {
  session.pack_dead();
  if (!can_hold_bits(image, false)) return at::redispatch::hardsigmoid(after(keys), image);
  return hold_bits(image, hardsigmoid_activation(), "HardsigmoidBackward0", false,
                   [](const Tensor& x) { return at::hardsigmoid(x); });
}

Tensor& hardsigmoid_(Keys keys, Tensor& image) {
  session.pack_dead();
  if (!can_hold_bits(image, true)) return at::redispatch::hardsigmoid_(after(keys), image);
  hold_bits(image, hardsigmoid_activation(), "HardsigmoidBackward0", true,
            [](Tensor x) { return at::hardsigmoid_(x); });
  return image;
}

// In place, torch saves the output.
Tensor leaky_relu(Keys keys, const Tensor& image, const at::Scalar& slope) {
  session.pack_dead();
  if (slope.toDouble() <= 0 || !can_hold_bits(image, false))
    return at::redispatch::leaky_relu(after(keys), image, slope);
  return hold_bits(image, leaky_relu_activation(slope.toDouble(), true), "LeakyReluBackward0",
                   false, [&](const Tensor& x) { return at::leaky_relu(x, slope); });
}

Tensor& leaky_relu_(Keys keys, Tensor& image, const at::Scalar& slope) {
  session.pack_dead();
  if (slope.toDouble() <= 0 || !can_hold_bits(image, true))
    return at::redispatch::leaky_relu_(after(keys), image, slope);
  hold_bits(image, leaky_relu_activation(slope.toDouble(), false), "LeakyReluBackward0", true,
            [&](Tensor x) { return at::leaky_relu_(x, slope); });
  return image;
}

bool drops(const Tensor& image, double p, bool train) {
  return may_act() && train && 0 < p && p < 1 && needs_grad(image) && is_eligible(image);
}

// Makes the node of a dropout hold its mask as bits.
void hold_mask(const Tensor& out, double p) {
  const auto hold_bits_of = [&](SavedVariable& field) {
    const auto mask = tensor_in(field);
    if (!mask.defined() || mask.sizes() != out.sizes() || !mask.is_non_overlapping_and_dense())
      return;
    const auto type = mask.scalar_type();
    if (are_ours(mask) && type != at::kBool && !has_kernels(mask)) return;
    double kept = 1;                      // a mask of booleans
    if (mask.scalar_type() != at::kBool)  // a mask of 0 and 1/(1-p), rounded as torch rounds it
      kept = at::ones({}, mask.options().device(at::kCPU)).div_(1 - p).item<double>();
    hold(field, std::make_shared<SavedMask>(mask, kept));
  };
  auto* node = out.grad_fn().get();
  if (auto* product = dynamic_cast<nodes::MulBackward0*>(node))
    return hold_bits_of(product->other_);
  if (auto* fused = dynamic_cast<nodes::NativeDropoutBackward0*>(node))
    hold_bits_of(fused->result1_);
}

Tensor dropout(Keys keys, const Tensor& image, double p, bool train) {
  session.pack_dead();
  if (!drops(image, p, train)) return at::redispatch::dropout(after(keys), image, p, train);
  Stock stock;
  auto out = at::dropout(image, p, train);
  hold_mask(out, p);
  return out;
}

Tensor& dropout_(Keys keys, Tensor& image, double p, bool train) {
  session.pack_dead();
  if (!drops(image, p, train)) return at::redispatch::dropout_(after(keys), image, p, train);
  Stock stock;
  at::dropout_(image, p, train);
  hold_mask(image, p);
  return image;
}

// --- the result can be computed again
// -----------------------------------------------------------------

bool can_recompute(const Tensor& image) {
  return may_act() && needs_grad(image) && is_eligible(image);
}

template <class N, auto redispatch, auto run>
Tensor activation(Keys keys, const Tensor& image) {
  session.pack_dead();
  if (!can_recompute(image)) return redispatch(after(keys), image);
  Stock stock;
  auto out = run(image);
  remember_activation<N>(out, [](const Tensor& x) { return run(x); });
  return out;
}

template <class N, auto redispatch, auto run, auto again>
Tensor& activation_(Keys keys, Tensor& image) {
  session.pack_dead();
  if (!can_recompute(image)) return redispatch(after(keys), image);
  Stock stock;
  run(image);
  remember_activation<N>(image, [](const Tensor& x) { return again(x); });
  return image;
}

Tensor gelu(Keys keys, const Tensor& image, c10::string_view approximate) {
  session.pack_dead();
  if (!can_recompute(image)) return at::redispatch::gelu(after(keys), image, approximate);
  Stock stock;
  auto out = at::gelu(image, approximate);
  remember_activation<nodes::GeluBackward0>(
      out, [how = std::string(approximate)](const Tensor& x) { return at::gelu(x, how); });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> native_layer_norm(Keys keys, const Tensor& image, SymInts shape,
                                                     const MaybeTensor& weight,
                                                     const MaybeTensor& bias, double eps) {
  session.pack_dead();
  if (!may_act() || !is_eligible(image))
    return at::redispatch::native_layer_norm_symint(after(keys), image, shape, weight, bias, eps);
  Stock stock;
  auto found = at::native_layer_norm_symint(image, shape, weight, bias, eps);
  if (std::get<0>(found).requires_grad())
    remember_layer_norm(std::get<0>(found), C10_AS_INTARRAYREF_SLOW(shape), eps);
  return found;
}

Tensor mul(Keys keys, const Tensor& a, const Tensor& b) {
  session.pack_dead();
  if (!may_act() || !is_plain(a) || !is_plain(b) || !(is_eligible(a) || is_eligible(b)))
    return at::redispatch::mul(after(keys), a, b);
  Stock stock;
  auto out = at::mul(a, b);
  remember_product(out);
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericWrapper, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&watch_call>());
}

// Functions that save none of their inputs, or that are made of others: to watch them costs time
// for nothing. What writes into its input is not among them.
TORCH_LIBRARY_IMPL(aten, TESTING_ONLY_GenericWrapper, m) {
  for (const auto* name : {"add.Tensor",
                           "add.Scalar",
                           "sub.Tensor",
                           "mean.dim",
                           "sum.dim_IntList",
                           "cat",
                           "detach",
                           "view",
                           "permute",
                           "transpose.int",
                           "slice.Tensor",
                           "select.int",
                           "unsqueeze",
                           "squeeze.dim",
                           "expand",
                           "t",
                           "sigmoid",
                           "tanh",
                           "empty_like",
                           "empty.memory_format",
                           "conv1d",
                           "conv2d",
                           "conv3d",
                           "batch_norm",
                           "_batch_norm_impl_index",
                           "layer_norm",
                           "linear",
                           "dropout",
                           "flatten.using_ints",
                           "adaptive_avg_pool2d",
                           "max_pool2d"})
    m.impl(name, torch::CppFunction::makeFallthrough());
}

#define FREEZEKIT_SHAPE(op, N, ...) \
  m.impl(#op, TORCH_FN((shape_rule<nodes::N, &at::redispatch::op, &at::op, __VA_ARGS__>)))
#define FREEZEKIT_PAD(op, N) \
  m.impl(                    \
      #op,                   \
      TORCH_FN((shape_rule<nodes::N, &at::redispatch::op##_symint, &at::op##_symint, SymInts>)))
#define FREEZEKIT_ACTIVATION(op, N)                                                                \
  m.impl(#op,                                                                                      \
         TORCH_FN(                                                                                 \
             (activation<nodes::N, FREEZEKIT_ONE(at::redispatch::op), FREEZEKIT_UNARY(at::op)>))); \
  m.impl(#op "_", TORCH_FN((activation_<nodes::N, FREEZEKIT_ONE_(at::redispatch::op##_),           \
                                        FREEZEKIT_UNARY_(at::op##_), FREEZEKIT_UNARY(at::op)>)))
#define FREEZEKIT_ONE(f) (static_cast<Tensor (*)(Keys, const Tensor&)>(&f))
#define FREEZEKIT_ONE_(f) (static_cast<Tensor& (*)(Keys, Tensor&)>(&f))
#define FREEZEKIT_UNARY(f) (static_cast<Tensor (*)(const Tensor&)>(&f))
#define FREEZEKIT_UNARY_(f) (static_cast<Tensor& (*)(Tensor&)>(&f))

TORCH_LIBRARY_IMPL(aten, TESTING_ONLY_GenericMode, m) {
  m.impl("convolution", TORCH_FN(convolution));
  m.impl("batch_norm", TORCH_FN(batch_norm));
  m.impl("native_batch_norm", TORCH_FN(native_batch_norm));
  FREEZEKIT_SHAPE(avg_pool2d, AvgPool2DBackward0, Ints, Ints, Ints, bool, bool,
                  std::optional<int64_t>);
  FREEZEKIT_SHAPE(avg_pool3d, AvgPool3DBackward0, Ints, Ints, Ints, bool, bool,
                  std::optional<int64_t>);
  FREEZEKIT_PAD(_adaptive_avg_pool2d, AdaptiveAvgPool2DBackward0);
  FREEZEKIT_PAD(_adaptive_avg_pool3d, AdaptiveAvgPool3DBackward0);
  FREEZEKIT_PAD(reflection_pad1d, ReflectionPad1DBackward0);
  FREEZEKIT_PAD(reflection_pad2d, ReflectionPad2DBackward0);
  FREEZEKIT_PAD(reflection_pad3d, ReflectionPad3DBackward0);
  FREEZEKIT_PAD(replication_pad1d, ReplicationPad1DBackward0);
  FREEZEKIT_PAD(replication_pad2d, ReplicationPad2DBackward0);
  FREEZEKIT_PAD(replication_pad3d, ReplicationPad3DBackward0);
  m.impl("max_pool2d_with_indices",
         TORCH_FN((max_pool_with_indices<nodes::MaxPool2DWithIndicesBackward0,
                                         &at::redispatch::max_pool2d_with_indices,
                                         &at::max_pool2d_with_indices, 2>)));
  m.impl("max_pool3d_with_indices",
         TORCH_FN((max_pool_with_indices<nodes::MaxPool3DWithIndicesBackward0,
                                         &at::redispatch::max_pool3d_with_indices,
                                         &at::max_pool3d_with_indices, 3>)));
  m.impl("max_pool1d", TORCH_FN(max_pool<&at::redispatch::max_pool1d>));
  m.impl("max_pool2d", TORCH_FN(max_pool<&at::redispatch::max_pool2d>));
  m.impl("max_pool3d", TORCH_FN(max_pool<&at::redispatch::max_pool3d>));
  m.impl("relu", TORCH_FN(relu));
  m.impl("relu_", TORCH_FN(relu_));
  m.impl("hardtanh", TORCH_FN(hardtanh));
  m.impl("hardtanh_", TORCH_FN(hardtanh_));
  m.impl("hardsigmoid", TORCH_FN(hardsigmoid));
  m.impl("hardsigmoid_", TORCH_FN(hardsigmoid_));
  m.impl("leaky_relu", TORCH_FN(leaky_relu));
  m.impl("leaky_relu_", TORCH_FN(leaky_relu_));
  m.impl("dropout", TORCH_FN(dropout));
  m.impl("dropout_", TORCH_FN(dropout_));
  FREEZEKIT_ACTIVATION(silu, SiluBackward0);
  FREEZEKIT_ACTIVATION(hardswish, HardswishBackward0);
  FREEZEKIT_ACTIVATION(mish, MishBackward0);
  m.impl("gelu", TORCH_FN(gelu));
  m.impl("native_layer_norm", TORCH_FN(native_layer_norm));
  m.impl("mul.Tensor", TORCH_FN(mul));
}

// --- the Python module
// ----------------------------------------------------------------------------------

namespace {

void enter() {
  if (session.depth++ == 0) c10::impl::tls_set_dispatch_key_included(RULES, true);
}

void leave() {
  if (--session.depth > 0) return;
  c10::impl::tls_set_dispatch_key_included(RULES, false);
  c10::impl::tls_set_dispatch_key_included(WATCH, false);
  session.finish();
}

// One call, because Python may raise KeyboardInterrupt between two.
PyObject* run(PyObject*, PyObject* given) {
  HANDLE_TH_ERRORS
  PyObject *forward, *args, *kwargs;
  if (!PyArg_ParseTuple(given, "OO!O!", &forward, &PyTuple_Type, &args, &PyDict_Type, &kwargs))
    return nullptr;
  enter();
  THPObjectPtr found(PyObject_Call(forward, args, kwargs));
  PyObject *type, *error, *trace;
  PyErr_Fetch(&type, &error, &trace);  // packing may run code in Python
  leave();
  PyErr_Restore(type, error, trace);
  return found.release();
  END_HANDLE_TH_ERRORS
}

PyObject* set_differentiable_gradients(PyObject*, PyObject* function) {
  Py_INCREF(function);
  Py_XDECREF(differentiable_gradients);
  differentiable_gradients = function;
  Py_RETURN_NONE;
}

PyObject* forget_kernels(PyObject*, PyObject*) {
  asked_for_memory.clear();
  Py_RETURN_NONE;
}

PyObject* use_kernels(PyObject*, PyObject* given) {
  kernels_are_on = PyObject_IsTrue(given) == 1;
  Py_RETURN_NONE;
}

PyObject* asked(PyObject*, PyObject*) { return PyLong_FromSize_t(asked_for_memory.count()); }

PyMethodDef hooks[] = {{"pack", pack_hook, METH_O, nullptr},
                       {"unpack", unpack_hook, METH_O, nullptr},
                       {nullptr, nullptr, 0, nullptr}};

PyMethodDef methods[] = {
    {"run", run, METH_VARARGS, "Return forward(*args, **kwargs), with lean in this thread."},
    {"set_differentiable_gradients", set_differentiable_gradients, METH_O,
     "Set the function for gradients of a fixed batch norm that are to be differentiated."},
    {"asked_for_memory", asked, METH_NOARGS,
     "Return of how many calls the kernels asked for memory."},
    {"use_kernels", use_kernels, METH_O,
     "Take the way of devices that have no kernels here, or not."},
    {"forget_kernels", forget_kernels, METH_NOARGS, "Forget which kernels asked for memory."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef module = {PyModuleDef_HEAD_INIT,
                      "core",
                      "Lean's rules in C++.",
                      -1,
                      methods,
                      nullptr,
                      nullptr,
                      nullptr,
                      nullptr};

}  // namespace
}  // namespace freezekit

PyMODINIT_FUNC PyInit_core() {
  at::SavedTensorDefaultHooks::lazy_initialize();
  freezekit::pack_function = PyCFunction_New(&freezekit::hooks[0], nullptr);
  freezekit::unpack_function = PyCFunction_New(&freezekit::hooks[1], nullptr);
  return PyModule_Create(&freezekit::module);
}
