// What differs between versions of torch: what holds a node of autograd, and where profilers are.
#pragma once

#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/profiler/orchestration/observer.h>
#include <torch/version.h>

#include <memory>
#include <utility>

namespace freezekit {

using torch::autograd::Node;
using NodePtr = decltype(torch::autograd::Edge::function);

template <class T, class... Args>
auto make_node(Args&&... args) {
#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 13
  // The deleter of torch: it takes a long chain of nodes apart without recursion.
  return std::shared_ptr<T>(new T(std::forward<Args>(args)...), torch::autograd::deleteNode);
#else
  return c10::make_intrusive<T>(std::forward<Args>(args)...);
#endif
}

// Whether a profiler runs that records the shapes of tensors.
inline bool a_profiler_records_shapes() {
  using torch::profiler::impl::ProfilerStateBase;
#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 14
  const auto* of_thread = ProfilerStateBase::get(/*global=*/false);
  const auto* of_process = ProfilerStateBase::get(/*global=*/true);
#else
  const auto* of_thread = ProfilerStateBase::getTLS();
  const auto of_process = ProfilerStateBase::getGlobal();
#endif
  return (of_thread && of_thread->config().report_input_shapes) ||
         (of_process && of_process->config().report_input_shapes);
}

}  // namespace freezekit
