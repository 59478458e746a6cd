// Functions whose gradient needs the shape of their input: backward on a placeholder.
//
// As freezekit/lean/placeholders.py, which says why: backward first runs on a placeholder without
// memory. Where a kernel asks for its address, it runs again on a placeholder of zeros.
#pragma once

#include <ATen/record_function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/generated/Functions.h>

#include <atomic>
#include <mutex>
#include <unordered_set>

#include "session.h"
#include "versions.h"

namespace freezekit {

using torch::autograd::variable_list;

// The calls whose kernels asked for memory. A program that makes more shapes starts anew.
struct AskedForMemory {
  static constexpr size_t MOST = 4096;
  std::mutex mutex;
  std::unordered_set<size_t> calls;
  std::atomic<bool> is_empty{true};

  bool contains(size_t call) {
    if (is_empty) return false;
    std::lock_guard<std::mutex> lock(mutex);
    return calls.count(call) > 0;
  }

  void add(size_t call) {
    std::lock_guard<std::mutex> lock(mutex);
    if (calls.size() >= MOST) calls.clear();
    calls.insert(call);
    is_empty = false;
  }

  size_t count() {
    std::lock_guard<std::mutex> lock(mutex);
    return calls.size();
  }

  void clear() {
    std::lock_guard<std::mutex> lock(mutex);
    calls.clear();
    is_empty = true;
  }
};

inline AskedForMemory asked_for_memory;

// Whether a profiler notes the addresses of tensors; one that records shapes does.
inline bool notes_addresses() { return at::hasCallbacks() && a_profiler_records_shapes(); }

// The metadata of a tensor whose values no gradient needs.
struct Shape : Saved {
  Metadata metadata;
  std::atomic<bool> needs_memory;

  Shape(const Tensor& tensor, bool needs_memory) : metadata(tensor), needs_memory(needs_memory) {}

  // Under `create_graph=True` it has memory, because the graph of the gradient holds it and hands
  // it to kernels that nobody watches.
  Tensor restore() override {
    if (needs_memory || at::GradMode::is_enabled() || notes_addresses())
      return metadata.empty().zero_();
    auto placeholder = at::empty({0}, metadata.options);
    placeholder.storage()
        .unsafeGetStorageImpl()
        ->release_data_and_set_meta_custom_data_ptr_error_msg_(
            "this tensor has no memory: lean saved only its shape");
    placeholder.unsafeGetTensorImpl()->set_sizes_and_strides(metadata.sizes, metadata.strides);
    return placeholder;
  }
};

// The edges of a node while it runs.
class LentEdges {
 public:
  LentEdges(Node& node, const torch::autograd::edge_list& edges) : node(node) {
    node.next_edges() = edges;
  }
  ~LentEdges() { node.next_edges().clear(); }
  LentEdges(const LentEdges&) = delete;
  LentEdges& operator=(const LentEdges&) = delete;

 private:
  Node& node;
};

// Stands in the graph for a node, and runs it: without memory, then with it.
struct Attempt : Node {
  NodePtr node;
  std::shared_ptr<Shape> shape;
  size_t call;
  std::mutex mutex;

  // The node gets its edges back while it runs. Two owners of a node would make autograd destroy a
  // long graph by recursion, which overflows the stack.
  Attempt(NodePtr given, std::shared_ptr<Shape> shape, size_t call)
      : Node(std::exchange(given->next_edges(), {})),
        node(std::move(given)),
        shape(std::move(shape)),
        call(call) {}

  std::string name() const override { return node->name(); }

  void release_variables() override { node->release_variables(); }

  variable_list apply(variable_list&& grads) override {
    std::lock_guard<std::mutex> lock(mutex);
    const LentEdges lent(*node, next_edges());
    if (shape->needs_memory || at::GradMode::is_enabled()) return (*node)(std::move(grads));
    try {
      return (*node)(variable_list(grads));
    } catch (const std::exception&) {  // mostly the placeholder's own; any other will come again
      shape->needs_memory = true;
    }
    auto found = (*node)(std::move(grads));
    asked_for_memory.add(call);
    return found;
  }
};

inline size_t mix(size_t seed, size_t value) {
  return seed ^ (value + 0x9e3779b97f4a7c15ULL + (seed << 6) + (seed >> 2));
}

inline size_t mix(size_t seed, at::IntArrayRef values) {
  for (auto value : values) seed = mix(seed, size_t(value));
  return mix(seed, values.size());
}

// The order of the strides: what a layout is, whatever the sizes.
inline size_t mix_layout(size_t seed, const Tensor& tensor) {
  std::vector<int64_t> order(size_t(tensor.dim()));
  for (size_t i = 0; i < order.size(); i++) order[i] = int64_t(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return tensor.stride(a) < tensor.stride(b); });
  seed = mix(seed, order);
  return mix(mix(seed, size_t(tensor.scalar_type())), size_t(tensor.device().type()));
}

// Whether kernels probably copy a tensor into another layout.
inline bool is_in_unusual_layout(const Tensor& tensor) {
  if (tensor.is_contiguous()) return false;
  // Kernels for volumes and for double precision support the contiguous layout only.
  if (tensor.dim() != 4 || tensor.scalar_type() == at::kDouble) return true;
  return !tensor.is_contiguous(at::MemoryFormat::ChannelsLast);
}

// Makes the node of a result hold the shape of a tensor that it has saved.
//
// `describe` returns what the kernel is chosen by, but for the sizes of the input. Where calls are
// told apart too little, some get a placeholder with memory without need.
template <class N, class Describe>
void hold_shape(const Tensor& out, SavedVariable N::* field, bool needs_memory,
                const Describe& describe) {
  if (!out.requires_grad()) return;
  const auto* node = dynamic_cast<N*>(out.grad_fn().get());
  if (!node) return;  // torch computed the function in another way
  auto& saved = const_cast<N*>(node)->*field;
  const auto tensor = tensor_in(saved);
  if (!tensor.defined()) return;
  auto shape = std::make_shared<Shape>(tensor, needs_memory || is_in_unusual_layout(tensor));
  const size_t call = mix_layout(mix(typeid(N).hash_code(), describe()), tensor);
  hold(saved, shape);
  if (asked_for_memory.contains(call)) shape->needs_memory = true;
  if (shape->needs_memory) return;
  auto attempt = make_node<Attempt>(out.grad_fn(), shape, call);
  torch::autograd::set_history(out, attempt);
}

// --- convolutions
// ------------------------------------------------------------------------------------

// One kernel takes all groups; other kernels get copied slices of the input.
inline bool runs_groups_at_once(const Tensor& weight) {
  if (weight.is_cuda())
    return at::globalContext().userEnabledCuDNN() && at::detail::getCUDAHooks().hasCuDNN();
  bool larger_than_one = false;
  for (int64_t i = 2; i < weight.dim(); i++) larger_than_one |= weight.size(i) > 1;
  return at::hasMKLDNN() && at::globalContext().userEnabledMkldnn() && larger_than_one &&
         weight.scalar_type() == at::kFloat && !at::autocast::is_autocast_enabled(at::kCPU);
}

// Whether torch runs a convolution in the layout that the input has. It does so in channels-last
// where input or weight suggest it.
inline bool is_in_layout_of_kernel(const Tensor& image, const Tensor& weight) {
  if (image.is_contiguous() && weight.is_contiguous() &&
      image.suggest_memory_format() == at::MemoryFormat::Contiguous &&
      weight.suggest_memory_format() == at::MemoryFormat::Contiguous)
    return true;
  const auto of_image = image.suggest_memory_format(), of_weight = weight.suggest_memory_format();
  return image.is_contiguous(of_image == at::MemoryFormat::Contiguous ? of_weight : of_image);
}

// Whether the backward of a convolution reads or copies its input, as far as is known: see
// `_probably_reads_input` in freezekit/lean/rules/shapes.py.
inline bool probably_reads_input(const Tensor& image, const Tensor& weight,
                                 const std::optional<Tensor>& bias, at::IntArrayRef dilation,
                                 int64_t groups) {
  if (needs_grad(bias) && !image.is_cuda()) return true;
  for (auto d : dilation)
    if (d != 1) return true;
  return !is_in_layout_of_kernel(image, weight) || weight.dim() == 3 ||
         (groups > 1 && !runs_groups_at_once(weight));
}

}  // namespace freezekit
