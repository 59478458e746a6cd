// What lean keeps track of during one forward, in the thread that runs it.
#pragma once

#include <ATen/SavedTensorHooks.h>
#include <Python.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/csrc/autograd/variable.h>

#include <unordered_map>

#include "bits.h"
#include "saved.h"

namespace freezekit {

// As in freezekit/lean/mode.py and rules/one_bit.py, which say why.
constexpr int64_t MIN_BYTES = 1 << 12;
constexpr int64_t MIN_BYTES_FOR_BITS = 1 << 14;
constexpr int MAX_RECOMPUTED_CALLS = 8;

// Whether new tensors have no memory of their own here: within transforms of functions, and where
// fake tensors are made or operators recorded. Lean must wait.
inline bool is_transformed() {
  using c10::impl::TorchDispatchModeKey;
  using c10::impl::TorchDispatchModeTLS;
  if (c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode))
    return true;
  if (!TorchDispatchModeTLS::any_modes_set()) return false;
  for (auto key :
       {TorchDispatchModeKey::FAKE, TorchDispatchModeKey::PROXY, TorchDispatchModeKey::FUNCTIONAL})
    if (TorchDispatchModeTLS::get_mode(key).has_value()) return true;
  return false;
}

using Death = c10::weak_intrusive_ptr<c10::TensorImpl>;

inline Death death_of(const Tensor& tensor) { return Death(tensor.getIntrusivePtr()); }

// An activation of which one bit for each element is enough. It is held whole until it has died and
// nobody shares its storage; see freezekit/lean/deferred_packing.py.
struct Packable {
  std::shared_ptr<AsIs> whole;
  std::function<Tensor(const Tensor&)> encode;
  Tensor bits;
  std::optional<c10::Stream> stream;

  // Whether somebody else holds its storage: an alias, or another saved tensor. Python's object of
  // a storage, where there is one, refers to it too.
  bool is_shared() const {
    const auto& storage = whole->tensor.storage();
    const bool has_object = storage.unsafeGetStorageImpl()->pyobj_slot()->load_pyobj() != nullptr;
    return storage.use_count() > (has_object ? 2 : 1);
  }
  void pack();
};

// An activation that can be computed again, as long as it lives.
struct Known {
  Death death;
  int64_t version;
  const c10::StorageImpl* storage;
  std::shared_ptr<Recomputation> recomputation;
};

struct Watched {
  std::weak_ptr<Packable> packable;
  Death death;
};

struct Session {
  int depth = 0;
  bool drops_indices = false;  // the max pooling that runs now returns no indices to the model
  std::vector<Watched> alive;
  std::vector<std::weak_ptr<Packable>> shared;
  std::unordered_map<c10::TensorImpl*, Known> known;

  // Packs the activations that have died, except those whose storage is shared.
  void pack_dead();
  void finish();
  void watch(const std::shared_ptr<Packable>& packable, const Tensor& activation);
  std::shared_ptr<Recomputed> recomputed(const Tensor& tensor);
  // Saves a tensor by its recomputation where one is known, and as it is otherwise.
  std::shared_ptr<Saved> save(const Tensor& tensor);
  void add(const Tensor& out, int calls, std::function<Tensor()> function);
  void forget(const c10::StorageImpl* storage);
};

inline thread_local Session session;

// ---------------------------------------------------------------------------------------------------

inline void Packable::pack() {
  if (!whole || whole->is_modified()) return;
  Stock stock;
  at::NoGradGuard no_grad;
  const auto& tensor = whole->tensor;
  std::optional<c10::StreamGuard> on_stream;
  if (stream) on_stream.emplace(*stream);
  bits = encode(tensor);
  whole.reset();
}

inline void Session::pack_dead() {
  if (alive.empty() || is_transformed()) return;
  size_t kept = 0;
  for (size_t i = 0; i < alive.size(); i++) {
    auto packable = alive[i].packable.lock();
    if (!packable || !packable->whole) continue;
    if (!alive[i].death.expired()) {
      if (kept != i) alive[kept] = std::move(alive[i]);
      kept++;
    } else if (packable->is_shared()) {
      shared.push_back(packable);
    } else {
      packable->pack();
    }
  }
  alive.erase(alive.begin() + int64_t(kept), alive.end());
}

inline void Session::finish() {
  pack_dead();
  for (const auto& each : shared) {
    auto packable = each.lock();
    if (packable && packable->whole && !packable->is_shared()) packable->pack();
  }
  alive.clear();
  shared.clear();
  known.clear();
}

inline void Session::watch(const std::shared_ptr<Packable>& packable, const Tensor& activation) {
  {
    Stock stock;
    packable->whole = std::make_shared<AsIs>(activation);
  }
  if (!activation.device().is_cpu() && !activation.device().is_meta()) {
    c10::impl::VirtualGuardImpl device(activation.device().type());
    packable->stream = device.getStream(activation.device());
  }
  alive.push_back({packable, death_of(activation)});
}

inline std::shared_ptr<Recomputed> Session::recomputed(const Tensor& tensor) {
  if (known.empty() || !tensor.defined() || tensor.layout() != at::kStrided) return nullptr;
  auto found = known.find(tensor.unsafeGetTensorImpl());
  const at::TensorBase* owner = &tensor;
  if (found == known.end()) {
    if (!tensor.is_view()) return nullptr;
    const auto& base = tensor._base();
    if (base.scalar_type() != tensor.scalar_type() || base.is_conj() != tensor.is_conj() ||
        base.is_neg() != tensor.is_neg())
      return nullptr;
    owner = &base;
    found = known.find(base.unsafeGetTensorImpl());
    if (found == known.end()) return nullptr;
  }
  const auto& entry = found->second;
  const bool is_as_it_was = !entry.death.expired() && version_of(*owner) == entry.version &&
                            owner->storage().unsafeGetStorageImpl() == entry.storage;
  if (!is_as_it_was) {
    known.erase(found);
    return nullptr;
  }
  std::optional<Geometry> view;
  if (owner != &tensor) view.emplace(tensor);
  return std::make_shared<Recomputed>(entry.recomputation, std::move(view));
}

inline std::shared_ptr<Saved> Session::save(const Tensor& tensor) {
  // of a detached tensor, stock autograd does not hold what it was computed from
  if (tensor.requires_grad())
    if (auto found = recomputed(tensor)) return found;
  return std::make_shared<AsIs>(tensor);
}

inline void Session::add(const Tensor& out, int calls, std::function<Tensor()> function) {
  if (!out.requires_grad() || out.layout() != at::kStrided || out.is_view()) return;
  if (calls > MAX_RECOMPUTED_CALLS) return;
  for (auto each = known.begin(); each != known.end();)  // those that died hold what they need
    each = each->second.death.expired() ? known.erase(each) : std::next(each);
  auto recomputation =
      std::make_shared<Recomputation>(Recomputation{Metadata(out), std::move(function), calls});
  known.insert_or_assign(
      out.unsafeGetTensorImpl(),
      Known{death_of(out), version_of(out), out.storage().unsafeGetStorageImpl(), recomputation});
  c10::impl::tls_set_dispatch_key_included(WATCH, true);
}

inline void Session::forget(const c10::StorageImpl* storage) {
  for (auto each = known.begin(); each != known.end();)
    each = each->second.storage == storage ? known.erase(each) : std::next(each);
}

// ---------------------------------------------------------------------------------------------------

// Whether lean may change what autograd saves now. It may not where somebody else has set hooks on
// saved tensors, as checkpointing does, nor within transforms of functions.
inline bool may_act() {
  return session.depth > 0 && at::GradMode::is_enabled() &&
         at::SavedTensorDefaultHooks::is_enabled() &&
         !at::SavedTensorDefaultHooks::get_hooks(true).has_value() && !is_transformed();
}

// An ordinary tensor: no subclass of Python's, not sparse, nested, batched or of forward mode.
inline bool is_plain(const Tensor& tensor) {
  using K = c10::DispatchKey;
  static const c10::DispatchKeySet unusual({K::Python, K::FuncTorchBatched, K::Batched,
                                            K::FuncTorchGradWrapper, K::Functionalize, K::Conjugate,
                                            K::Negative, K::ZeroTensor, K::NestedTensor});
  return tensor.defined() && tensor.layout() == at::kStrided &&
         !tensor.unsafeGetTensorImpl()->is_python_dispatch() &&
         !tensor.key_set().has_any(unusual) && !tensor.is_quantized();
}

inline bool has_tangent(const Tensor& tensor) {
  return tensor.defined() && tensor._fw_grad(0).defined();
}

// Whether a rule may apply to an input: a plain tensor that is large enough.
inline bool is_eligible(const Tensor& tensor, int64_t least = MIN_BYTES) {
  return is_plain(tensor) && int64_t(tensor.nbytes()) >= least;
}

// Holds Python's lock, which torch releases while it runs a function.
class Gil {
 public:
  Gil() : state(PyGILState_Ensure()) {}
  ~Gil() { PyGILState_Release(state); }
  Gil(const Gil&) = delete;
  Gil& operator=(const Gil&) = delete;

 private:
  PyGILState_STATE state;
};

inline bool needs_grad(const std::optional<Tensor>& tensor) {
  return tensor && tensor->defined() && tensor->requires_grad();
}

}  // namespace freezekit
