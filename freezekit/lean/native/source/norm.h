// A batch norm with fixed statistics and a frozen weight: freezekit/lean/norm.py in C++.
#pragma once

#include <Python.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

#include "one_bit.h"

namespace freezekit {

// `DifferentiableGradients.apply` of freezekit/lean/norm.py: under `create_graph=True`, which is
// rare.
inline PyObject* differentiable_gradients = nullptr;

// The gradient of the input: that of the output times the inverse deviation, then times the weight,
// each product rounded, as torch's kernel does. `inner` elements in a row have one channel.
FREEZEKIT_HOT inline void scale_range(const float* grad, const float* factors, const float* weights,
                                      float* out, int64_t start, int64_t stop, int64_t channels,
                                      int64_t inner) {
  if (inner == 1) {  // channels last
    for (int64_t row = start; row < stop; row++) {
      const float* from = grad + row * channels;
      float* to = out + row * channels;
      if (weights) {
        for (int64_t c = 0; c < channels; c++) to[c] = (from[c] * factors[c]) * weights[c];
      } else {
        for (int64_t c = 0; c < channels; c++) to[c] = from[c] * factors[c];
      }
    }
    return;
  }
  for (int64_t row = start; row < stop; row++) {
    const float* from = grad + row * inner;
    float* to = out + row * inner;
    const float factor = factors[row % channels];
    if (weights) {
      const float weight = weights[row % channels];
      for (int64_t i = 0; i < inner; i++) to[i] = (from[i] * factor) * weight;
    } else {
      for (int64_t i = 0; i < inner; i++) to[i] = from[i] * factor;
    }
  }
}

// How many elements in a row have one channel, where a kernel of ours takes this layout.
inline std::optional<int64_t> elements_in_a_row(const Tensor& grad) {
  if (grad.is_contiguous()) return grad.numel() / (grad.size(0) * grad.size(1));
  const bool is_last = (grad.dim() == 4 && grad.is_contiguous(at::MemoryFormat::ChannelsLast)) ||
                       (grad.dim() == 5 && grad.is_contiguous(at::MemoryFormat::ChannelsLast3d));
  return is_last ? std::optional<int64_t>(1) : std::nullopt;
}

inline Tensor scaled(const Tensor& grad, const Tensor& variance, const Tensor& weight, double eps) {
  // Torch's kernel computes the deviation in double precision, and rounds its inverse.
  const auto factors = (1 / (variance.to(at::kDouble) + eps).sqrt()).to(at::kFloat);
  const auto inner = is_plain(grad) ? elements_in_a_row(grad) : std::nullopt;
  const bool is_usual =
      inner && grad.numel() > 0 && is_plain(variance) && factors.is_contiguous() &&
      (!weight.defined() || (weight.is_contiguous() && weight.scalar_type() == at::kFloat));
  if (!is_usual) {
    std::vector<int64_t> by_channel(size_t(grad.dim()), 1);
    by_channel[1] = -1;
    auto out = grad * factors.view(by_channel);
    if (weight.defined()) out.mul_(weight.view(by_channel));
    return out.to(grad.scalar_type());
  }
  auto out = at::empty_like(grad);
  const int64_t channels = grad.size(1), rows = grad.numel() / (*inner == 1 ? channels : *inner);
  const auto *from = grad.const_data_ptr<float>(), *by = factors.const_data_ptr<float>();
  const auto* weights = weight.defined() ? weight.const_data_ptr<float>() : nullptr;
  auto* to = out.mutable_data_ptr<float>();
  const int64_t grain = std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, grad.numel() / rows));
  at::parallel_for(0, rows, grain, [&](int64_t start, int64_t stop) {
    scale_range(from, by, weights, to, start, stop, channels, *inner);
  });
  return out;
}

struct FixedBatchNormBackward : Node {
  SavedVariable mean, variance, weight;
  double eps = 0;
  std::vector<int64_t> strides;  // of the input
  bool is_released = false;
  std::mutex mutex;

  std::string name() const override { return "FixedBatchNormBackward"; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex);
    mean.reset_data();
    variance.reset_data();
    weight.reset_data();
    is_released = true;
  }

  variable_list apply(variable_list&& grads) override {  // to the input, and to the bias
    std::lock_guard<std::mutex> lock(mutex);
    variable_list found(2);
    const auto& grad = grads[0];
    if (!grad.defined()) return found;
    TORCH_CHECK(!is_released, torch::autograd::ERR_BACKWARD_TWICE);
    const bool to_input = task_should_compute_output(0), to_bias = task_should_compute_output(1);
    const auto of_mean = mean.unpack(), of_variance = variance.unpack(),
               of_weight = weight.unpack();
    if (at::GradMode::is_enabled())
      return differentiable(grad, of_mean, of_variance, of_weight, to_input, to_bias);
    const bool keeps_layout = grad.strides() == at::IntArrayRef(strides);
    const bool by_factors = grad.device().is_cpu() && grad.scalar_type() == at::kFloat &&
                            of_variance.scalar_type() == at::kFloat && keeps_layout && !to_bias;
    if (by_factors) {
      if (to_input) found[0] = scaled(grad, of_variance, of_weight, eps);
      return found;
    }
    // the layout of the input decides which kernel runs
    const auto placeholder =
        keeps_layout ? grad : at::empty_strided(grad.sizes(), strides, grad.options()).zero_();
    const auto none = at::empty({0}, of_variance.options());
    auto all = at::native_batch_norm_backward(grad, placeholder, of_weight, of_mean, of_variance,
                                              none, none, false, eps, {to_input, false, to_bias});
    found[0] = std::get<0>(all);
    found[1] = std::get<2>(all);
    return found;
  }

 private:
  variable_list differentiable(const Tensor& grad, const Tensor& of_mean, const Tensor& of_variance,
                               const Tensor& of_weight, bool to_input, bool to_bias) const {
    const Gil gil;
    variable_list found(2);
    PyObject* place = PyTuple_New(Py_ssize_t(strides.size()));
    for (size_t i = 0; i < strides.size(); i++)
      PyTuple_SET_ITEM(place, Py_ssize_t(i), PyLong_FromLongLong(strides[i]));
    PyObject* result = PyObject_CallFunction(
        differentiable_gradients, "NNNNdN(NN)", THPVariable_Wrap(grad), THPVariable_Wrap(of_mean),
        THPVariable_Wrap(of_variance), wrap_or_none(of_weight), eps, place,
        PyBool_FromLong(to_input), PyBool_FromLong(to_bias));
    if (!result) throw python_error();
    for (Py_ssize_t i = 0; i < 2; i++) {
      PyObject* each = PyTuple_GET_ITEM(result, i);
      if (THPVariable_Check(each)) found[size_t(i)] = THPVariable_Unpack(each);
    }
    Py_DECREF(result);
    return found;
  }

  static PyObject* wrap_or_none(const Tensor& tensor) {
    if (tensor.defined()) return THPVariable_Wrap(tensor);
    Py_RETURN_NONE;
  }
};

template <class Run>
Tensor fixed_batch_norm(const Tensor& image, const std::optional<Tensor>& weight,
                        const std::optional<Tensor>& bias, const Tensor& mean,
                        const Tensor& variance, double eps, const Run& run) {
  Stock stock;
  auto node = make_node<FixedBatchNormBackward>();
  node->set_next_edges(torch::autograd::collect_next_edges(image, bias.value_or(Tensor())));
  Tensor out;
  {
    at::AutoDispatchBelowAutograd below;
    out = run();
  }
  node->mean = SavedVariable(mean, false);
  node->variance = SavedVariable(variance, false);
  if (weight && weight->defined()) node->weight = SavedVariable(*weight, false);
  node->eps = eps;
  node->strides = image.strides().vec();
  torch::autograd::set_history(out, node);
  return out;
}

}  // namespace freezekit
