// What autograd holds in the place of a tensor, and how backward gets the tensor from it.
//
// The classes are those of freezekit/lean/saved_tensors.py.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

#include <functional>
#include <memory>

namespace freezekit {

using at::Tensor;
using torch::autograd::SavedVariable;
using torch::autograd::SavedVariableHooks;

// `RULES` has kernels for the functions that have a rule. `WATCH` sees every function, and is only
// switched on while an activation is alive that can be computed again. Both are keys that torch
// itself uses in its tests alone.
constexpr auto RULES = c10::DispatchKey::TESTING_ONLY_GenericMode;
constexpr auto WATCH = c10::DispatchKey::TESTING_ONLY_GenericWrapper;

// Within it, torch's functions run as if there were no lean.
struct Stock {
  c10::impl::ExcludeDispatchKeyGuard guard{c10::DispatchKeySet({RULES, WATCH})};
};

struct Saved {
  virtual ~Saved() = default;
  virtual Tensor restore() = 0;
  // Function calls that it takes.
  virtual int calls() const { return 0; }
};

inline int64_t version_of(const at::TensorBase& tensor) {
  return tensor.is_inference() ? 0 : tensor._version();
}

// The tensor itself, as stock autograd would save it.
struct AsIs : Saved {
  Tensor tensor;
  int64_t version;

  // Detached, because an output that is saved with its graph would keep itself alive.
  explicit AsIs(const Tensor& given)
      : tensor(given.is_leaf() ? given : given.detach()), version(version_of(given)) {}

  bool is_modified() const { return version_of(tensor) != version; }

  Tensor restore() override {
    TORCH_CHECK(!is_modified(),
                "one of the variables needed for gradient computation has been modified by an "
                "inplace operation: [",
                tensor.toString(), " ", tensor.sizes(), "] is at version ", version_of(tensor),
                "; expected version ", version, " instead");
    return tensor;
  }
};

// All of a tensor but its values.
struct Metadata {
  std::vector<int64_t> sizes, strides;
  at::TensorOptions options;

  explicit Metadata(const Tensor& tensor)
      : sizes(tensor.sizes().vec()),
        strides(tensor.strides().vec()),
        options(tensor.options().requires_grad(false)) {}

  Tensor empty() const { return at::empty_strided(sizes, strides, options); }
};

// How to compute an activation again from what is saved anyway.
struct Recomputation {
  Metadata metadata;
  std::function<Tensor()> function;
  int calls;

  Tensor compute() const {
    at::NoGradGuard no_grad;
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);  // saved as cast
    Stock stock;
    auto tensor = function();
    if (tensor.strides() == at::IntArrayRef(metadata.strides)) return tensor;
    return metadata.empty().copy_(tensor);
  }
};

// Where a view lies in the memory of its base.
struct Geometry {
  std::vector<int64_t> sizes, strides;
  int64_t offset;

  explicit Geometry(const Tensor& view)
      : sizes(view.sizes().vec()), strides(view.strides().vec()), offset(view.storage_offset()) {}
};

// An activation that backward computes again, or a view of one.
struct Recomputed : Saved {
  std::shared_ptr<Recomputation> recomputation;
  std::optional<Geometry> view;

  Recomputed(std::shared_ptr<Recomputation> of, std::optional<Geometry> view)
      : recomputation(std::move(of)), view(std::move(view)) {}

  Tensor restore() override {
    auto tensor = recomputation->compute();
    return view ? tensor.as_strided(view->sizes, view->strides, view->offset) : tensor;
  }

  int calls() const override { return recomputation->calls; }
};

// Makes a node of autograd hold something else than the tensor that it saved.
struct Hooks : SavedVariableHooks {
  std::shared_ptr<Saved> saved;

  explicit Hooks(std::shared_ptr<Saved> saved) : saved(std::move(saved)) {}
  void call_pack_hook(const Tensor&) override {}
  Tensor call_unpack_hook() override { return saved->restore(); }
};

inline void hold(SavedVariable& field, std::shared_ptr<Saved> saved) {
  field.register_hooks(std::make_unique<Hooks>(std::move(saved)));
}

// The tensor that a node has saved; undefined where it has none, or where it is held otherwise.
inline Tensor tensor_in(const SavedVariable& field) {
  return field.get_raw_data().value_or(Tensor());
}

}  // namespace freezekit
