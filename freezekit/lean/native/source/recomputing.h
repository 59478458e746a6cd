// Functions whose result can be computed again: freezekit/lean/rules/recomputing.py in C++.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <Python.h>
#include <torch/csrc/PyInterpreter.h>
#include <torch/csrc/autograd/python_variable.h>

#include "shapes.h"

namespace freezekit {

// Notes that `function` computes the output of an activation again from the input, which the
// gradient of the activation needs anyway.
template <class N>
void remember_activation(const Tensor& out, std::function<Tensor(const Tensor&)> function) {
  if (!out.requires_grad()) return;
  auto* node = dynamic_cast<N*>(out.grad_fn().get());
  if (!node) return;
  const auto tensor = tensor_in(node->self_);
  if (!tensor.defined()) return;
  const auto saved = session.save(tensor);
  hold(node->self_, saved);
  session.add(out, 1 + saved->calls(), [saved, function] { return function(saved->restore()); });
}

// The same for a layer norm, whose parameters its gradient needs too.
inline void remember_layer_norm(const Tensor& out, at::IntArrayRef shape, double eps) {
  auto* node =
      dynamic_cast<torch::autograd::generated::NativeLayerNormBackward0*>(out.grad_fn().get());
  if (!node) return;
  const auto tensor = tensor_in(node->input_);
  if (!tensor.defined()) return;
  const auto weight = tensor_in(node->weight_), bias = tensor_in(node->bias_);
  // what was computed for this call alone, as a cast weight, would be held in vain
  for (const auto& each : {weight, bias})
    if (each.defined() && !each.is_leaf()) return;
  const auto saved = session.save(tensor);
  hold(node->input_, saved);
  std::shared_ptr<AsIs> of_weight, of_bias;
  if (weight.defined()) of_weight = std::make_shared<AsIs>(weight);
  if (bias.defined()) of_bias = std::make_shared<AsIs>(bias);
  session.add(out, 1 + saved->calls(), [=, shape = shape.vec()] {
    const auto given = [](const std::shared_ptr<AsIs>& each) {
      return each ? each->restore() : Tensor();
    };
    return std::get<0>(
        at::native_layer_norm(saved->restore(), shape, given(of_weight), given(of_bias), eps));
  });
}

// Makes the node of a result hold how to compute again what it has saved, where that is known.
template <class N, class... Fields>
void hold_known(const Tensor& out, Fields N::*... fields) {
  if (!out.requires_grad()) return;
  auto* node = dynamic_cast<N*>(out.grad_fn().get());
  if (!node) return;
  const auto each = [&](SavedVariable& field) {
    const auto tensor = tensor_in(field);
    if (!tensor.defined() || !tensor.requires_grad()) return;
    if (auto known = session.recomputed(tensor)) hold(field, std::move(known));
  };
  (each(node->*fields), ...);
}

// The same for a product of two activations that are both saved.
inline void remember_product(const Tensor& out) {
  if (!out.requires_grad()) return;
  auto* node = dynamic_cast<torch::autograd::generated::MulBackward0*>(out.grad_fn().get());
  if (!node) return;
  const auto self = tensor_in(node->self_), other = tensor_in(node->other_);
  const auto hold_in = [](SavedVariable& field, const Tensor& tensor) {
    auto saved = session.save(tensor);
    hold(field, saved);
    return saved;
  };
  if (self.defined() && other.defined()) {
    const auto a = hold_in(node->self_, self), b = hold_in(node->other_, other);
    session.add(out, 1 + a->calls() + b->calls(),
                [a, b] { return at::mul(a->restore(), b->restore()); });
    return;
  }
  if (self.defined() && session.recomputed(self)) hold_in(node->self_, self);
  if (other.defined() && session.recomputed(other)) hold_in(node->other_, other);
}

// --- functions without a rule that take what can be computed again
// -----------------------------------

// Torch offers one way to change what any function saves: hooks that are Python objects.

constexpr const char* CAPSULE = "freezekit.saved";

inline PyObject* pack_hook(PyObject*, PyObject* given) {
  HANDLE_TH_ERRORS
  Stock stock;
  auto* saved = new std::shared_ptr<Saved>(session.save(THPVariable_Unpack(given)));
  return PyCapsule_New(saved, CAPSULE, [](PyObject* capsule) {
    delete static_cast<std::shared_ptr<Saved>*>(PyCapsule_GetPointer(capsule, CAPSULE));
  });
  END_HANDLE_TH_ERRORS
}

inline PyObject* unpack_hook(PyObject*, PyObject* given) {
  HANDLE_TH_ERRORS
  const auto* saved = static_cast<std::shared_ptr<Saved>*>(PyCapsule_GetPointer(given, CAPSULE));
  return THPVariable_Wrap((*saved)->restore());
  END_HANDLE_TH_ERRORS
}

inline PyObject *pack_function = nullptr, *unpack_function = nullptr;

class WithHooks {
 public:
  WithHooks() {
    const Gil gil;
    Py_INCREF(pack_function);
    Py_INCREF(unpack_function);
    at::SavedTensorDefaultHooks::push_hooks(c10::SafePyObject(pack_function, getPyInterpreter()),
                                            c10::SafePyObject(unpack_function, getPyInterpreter()));
  }
  ~WithHooks() {
    const Gil gil;
    at::SavedTensorDefaultHooks::pop_hooks();
  }
  WithHooks(const WithHooks&) = delete;
  WithHooks& operator=(const WithHooks&) = delete;
};

// Functions that only move elements: their result is computed again where their input is.
inline bool only_moves(const c10::OperatorHandle& op) {
  static const std::set<std::string> names{"aten::roll", "aten::clone", "aten::_unsafe_view",
                                           "aten::constant_pad_nd", "aten::_reshape_copy"};
  return names.count(op.operator_name().name) > 0;
}

inline void move_again(const c10::OperatorHandle& op, const std::shared_ptr<Recomputed>& of,
                       torch::jit::Stack arguments, const Tensor& out) {
  arguments[0] = c10::IValue();  // nothing must hold it
  session.add(out, 1 + of->calls(), [op, of, arguments]() mutable {
    auto stack = arguments;
    stack[0] = of->restore();
    op.callBoxed(&stack);
    return stack[0].toTensor();
  });
}

// The kernel of every function, while an activation is alive that can be computed again.
inline void watch_call(const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                       torch::jit::Stack* stack) {
  const auto next = keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, WATCH);
  // A composite function is made of others, which come here or to their rules in turn.
  const bool is_composite = op.hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd);
  if (is_composite || session.known.empty()) return op.redispatchBoxed(next, stack);
  const bool acts = may_act();
  const auto& schema = op.schema();
  const size_t count = schema.arguments().size();
  const auto given = torch::jit::last(*stack, count);
  const auto is_known = [](const Tensor& tensor) { return bool(session.recomputed(tensor)); };
  bool takes_known = false;
  for (size_t i = 0; i < count; i++) {
    const auto& value = given[i];
    const auto* alias = schema.arguments()[i].alias_info();
    if (value.isTensor()) {
      const auto& tensor = value.toTensor();
      if (!tensor.defined()) continue;
      // values changed through `data` leave the version as it is
      if (alias && alias->isWrite() && tensor.layout() == at::kStrided && tensor.has_storage())
        session.forget(tensor.storage().unsafeGetStorageImpl());
      takes_known |= acts && is_known(tensor);
    } else if (!acts) {
      continue;
    } else if (value.isTensorList()) {
      for (const Tensor& tensor : value.toTensorVector()) takes_known |= is_known(tensor);
    } else if (value.isOptionalTensorList()) {
      for (const std::optional<Tensor>& tensor : value.toOptionalTensorVector())
        if (tensor) takes_known |= is_known(*tensor);
    }
  }
  if (!takes_known) return op.redispatchBoxed(next, stack);
  torch::jit::Stack arguments;
  std::shared_ptr<Recomputed> moved;
  if (only_moves(op) && given[0].isTensor() && (moved = session.recomputed(given[0].toTensor())))
    arguments.assign(given.begin(), given.end());
  {
    Stock stock;
    WithHooks hooks;
    op.callBoxed(stack);
  }
  if (moved && stack->back().isTensor())
    move_again(op, moved, std::move(arguments), stack->back().toTensor());
}

}  // namespace freezekit
