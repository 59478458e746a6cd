// Functions whose gradient needs one bit of each element: freezekit/lean/bitwise.py in C++.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/VariableTypeUtils.h>

#include "shapes.h"

namespace freezekit {

constexpr double INFINITE = std::numeric_limits<double>::infinity();

enum class Operator { threshold, hardtanh, hardsigmoid, leaky_relu };

// One activation function. Its saved tensor is the one that torch's backward operator reads. The
// operator gives the same result for an element and for the value that stands for its bit.
struct Activation {
  Operator kind;
  std::vector<double> constants, constants_for_bits;
  Comparison comparison;
  double zero, one;
  bool saves_input;

  const char* name() const {
    switch (kind) {
      case Operator::threshold:
        return "threshold_backward";
      case Operator::hardtanh:
        return "hardtanh_backward";
      case Operator::hardsigmoid:
        return "hardsigmoid_backward";
      default:
        return "leaky_relu_backward";
    }
  }

  Tensor run(const Tensor& grad, const Tensor& saved, const std::vector<double>& with) const {
    switch (kind) {
      case Operator::threshold:
        return at::threshold_backward(grad, saved, with[0]);
      case Operator::hardtanh:
        return at::hardtanh_backward(grad, saved, with[0], with[1]);
      case Operator::hardsigmoid:
        return at::hardsigmoid_backward(grad, saved);
      default:
        return at::leaky_relu_backward(grad, saved, with[0], false);
    }
  }
};

inline const Activation& relu_activation() {
  static const Activation made{
      Operator::threshold, {0.0}, {0.0}, {0.0, INFINITE, false}, 1.0, 0.0, false};
  return made;
}

inline Activation hardtanh_activation(double low, double high) {
  return {Operator::hardtanh, {low, high}, {0.0, 2.0}, {low, high, true}, 0.0, 1.0, true};
}

inline const Activation& hardsigmoid_activation() {
  static const Activation made{Operator::hardsigmoid, {}, {}, {-3.0, 3.0, true}, 3.0, 0.0, true};
  return made;
}

inline Activation leaky_relu_activation(double slope, bool saves_input) {
  return {Operator::leaky_relu, {slope, 0.0}, {slope, 0.0}, {0.0, INFINITE, true}, -1.0, 1.0,
          saves_input};
}

// --- bits on devices that have no kernels here: freezekit's own operators
// ----------------------------

inline Tensor flat_in_memory(const Tensor& tensor) {
  return tensor.as_strided({tensor.numel()}, {1}, tensor.storage_offset());
}

inline Tensor pack_by_operator(const Tensor& tensor, Comparison how) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("freezekit::pack_bits", "")
                             .typed<Tensor(const Tensor&, double, double, bool)>();
  return op.call(flat_in_memory(tensor), how.low, how.high, how.inside);
}

inline Tensor unpack_by_operator(const Tensor& bits, int64_t count, double zero, double one,
                                 at::ScalarType type) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("freezekit::unpack_bits", "")
          .typed<Tensor(const Tensor&, int64_t, double, double, at::ScalarType)>();
  return op.call(bits, count, zero, one, type);
}

inline Tensor backward_by_operator(const Tensor& grad, const Tensor& bits,
                                   const Activation& function) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("freezekit::bits_backward", "")
                             .typed<Tensor(const Tensor&, const Tensor&, double, double,
                                           c10::string_view, at::ArrayRef<double>)>();
  return op.call(grad, bits, function.zero, function.one, function.name(),
                 function.constants_for_bits);
}

inline std::function<Tensor(const Tensor&)> encoder(const Tensor& like, Comparison how) {
  if (has_kernels(like)) return [how](const Tensor& tensor) { return pack(tensor, how); };
  return [how](const Tensor& tensor) { return pack_by_operator(tensor, how); };
}

inline Tensor values_of(const Tensor& bits, int64_t count, double zero, double one,
                        at::ScalarType type) {
  if (are_ours(bits)) return unpack(bits, count, zero, one, type);
  return unpack_by_operator(bits, count, zero, one, type);
}

// --- the node
// ----------------------------------------------------------------------------------------

inline bool is_batch_of_gradients(const Tensor& grad) {
  return grad.key_set().has_any(
      c10::DispatchKeySet({c10::DispatchKey::FuncTorchBatched, c10::DispatchKey::Batched}));
}

struct ActivationBackward : Node {
  Activation function;
  std::string of;
  std::vector<int64_t> strides;  // of the saved tensor
  std::shared_ptr<Packable> saved;
  std::mutex mutex;

  ActivationBackward(Activation function, std::string of)
      : function(std::move(function)), of(std::move(of)) {}

  std::string name() const override { return of; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex);
    saved.reset();
  }

  variable_list apply(variable_list&& grads) override {
    std::lock_guard<std::mutex> lock(mutex);
    const auto& grad = grads[0];
    if (!grad.defined()) return {Tensor()};
    TORCH_CHECK(saved, torch::autograd::ERR_BACKWARD_TWICE);
    if (saved->whole) return {function.run(grad, saved->whole->restore(), function.constants)};
    const auto& bits = saved->bits;
    const bool runs_kernel = !at::GradMode::is_enabled() && !is_batch_of_gradients(grad) &&
                             grad.strides() == at::IntArrayRef(strides);
    if (runs_kernel && !are_ours(bits)) return {backward_by_operator(grad, bits, function)};
    if (runs_kernel && has_kernels(grad) && grad.layout() == at::kStrided && is_plain(grad)) {
      if (function.kind == Operator::threshold) return {select(grad, bits, false)};
      if (function.kind == Operator::hardtanh) return {select(grad, bits, true)};
      return {in_chunks(grad, bits)};
    }
    auto values = values_of(bits, grad.numel(), function.zero, function.one, grad.scalar_type());
    return {
        function.run(grad, values.as_strided(grad.sizes(), strides), function.constants_for_bits)};
  }

 private:
  // The operator on values that stand for the bits, which fit into the cache.
  Tensor in_chunks(const Tensor& grad, const Tensor& bits) const {
    constexpr int64_t CHUNK = 1 << 18;
    auto out = at::empty_like(grad);
    auto from = flat_in_memory(grad), to = flat_in_memory(out);
    for (int64_t start = 0; start < grad.numel(); start += CHUNK) {
      const int64_t size = std::min(CHUNK, grad.numel() - start);
      const auto part = bits.slice(0, start / 8, (start + size + 7) / 8);
      const auto values = unpack(part, size, function.zero, function.one, grad.scalar_type());
      to.slice(0, start, start + size)
          .copy_(function.run(from.slice(0, start, start + size), values,
                              function.constants_for_bits));
    }
    return out;
  }
};

// Whether the rule applies to an input: torch itself tracks, or refuses, a change in place of a
// view or of a leaf.
inline bool can_hold_bits(const Tensor& image, bool inplace) {
  return may_act() && needs_grad(image) && is_eligible(image, MIN_BYTES_FOR_BITS) &&
         image.is_floating_point() && (has_kernels(image) || !are_ours(image)) &&
         image.is_non_overlapping_and_dense() && !has_tangent(image) &&
         !(inplace && (image.is_view() || image.is_leaf()));
}

// Runs an activation function so that autograd holds one bit for each element. `run` computes it,
// in place or not.
template <class Run>
Tensor hold_bits(const Tensor& image, const Activation& function, const char* name, bool inplace,
                 const Run& run) {
  Stock stock;
  if (inplace) torch::autograd::check_inplace(image, true);
  auto node = make_node<ActivationBackward>(function, name);
  node->set_next_edges(torch::autograd::collect_next_edges(image));
  auto packable = std::make_shared<Packable>();
  packable->encode = encoder(image, function.comparison);
  if (function.saves_input) {
    node->strides = image.strides().vec();
    session.watch(packable, image);
    if (inplace) packable->pack();  // the function is about to overwrite it
  }
  Tensor out;
  {
    at::AutoDispatchBelowAutograd below;
    out = run(image);
  }
  if (inplace) {
    torch::autograd::rebase_history(out, node);
  } else {
    torch::autograd::set_history(out, node);
  }
  if (!function.saves_input) {
    node->strides = out.strides().vec();
    session.watch(packable, out);
  }
  node->saved = std::move(packable);
  return out;
}

// A mask of two values, such as that of dropout, as one bit for each element.
struct SavedMask : Saved {
  Metadata metadata;
  Tensor bits;
  double kept;  // what stands in the mask where it is not 0

  SavedMask(const Tensor& mask, double kept) : metadata(mask), kept(kept) {
    const Comparison is_zero{0.0, INFINITE, false};
    const auto numbers = mask.scalar_type() == at::kBool ? mask.view(at::kByte) : mask;
    bits = has_kernels(numbers) ? pack(numbers, is_zero) : pack_by_operator(numbers, is_zero);
  }

  Tensor restore() override {
    const int64_t count = c10::multiply_integers(metadata.sizes);
    const auto type = metadata.options.dtype().toScalarType();
    const auto values = values_of(bits, count, kept, 0.0, type);
    return values.as_strided(metadata.sizes, metadata.strides);
  }
};

}  // namespace freezekit
