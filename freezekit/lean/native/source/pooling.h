// The positions at which max pooling found its values, in one byte each instead of eight.
//
// As freezekit/lean/pooling.py.
#pragma once

#include <numeric>
#include <set>

#include "session.h"

namespace freezekit {

// The geometry of a pooling, one number for each pooled dimension.
struct Window {
  std::vector<int64_t> size, kernel, stride, padding, dilation;

  static std::vector<int64_t> per_dimension(at::IntArrayRef given, size_t dimensions) {
    return given.size() == 1 ? std::vector<int64_t>(dimensions, given[0]) : given.vec();
  }

  Window(const Tensor& image, at::IntArrayRef kernel_size, at::IntArrayRef strides,
         at::IntArrayRef paddings, at::IntArrayRef dilations, size_t dimensions)
      : size(image.sizes().slice(size_t(image.dim()) - dimensions).vec()),
        kernel(per_dimension(kernel_size, dimensions)),
        stride(strides.empty() ? kernel : per_dimension(strides, dimensions)),
        padding(per_dimension(paddings, dimensions)),
        dilation(per_dimension(dilations, dimensions)) {}

  // How much an index into the flattened input grows with a step along each dimension.
  std::vector<int64_t> index_steps() const {
    std::vector<int64_t> steps(size.size(), 1);
    for (size_t i = size.size() - 1; i > 0; i--) steps[i - 1] = steps[i] * size[i];
    return steps;
  }

  // The index of each position of a window, counted from the index of its first position.
  std::vector<int64_t> offsets() const {
    const auto steps = index_steps();
    std::vector<int64_t> found{0};
    for (size_t d = 0; d < kernel.size(); d++) {
      std::vector<int64_t> longer;
      for (auto offset : found)
        for (int64_t k = 0; k < kernel[d]; k++)
          longer.push_back(offset + k * dilation[d] * steps[d]);
      found = std::move(longer);
    }
    return found;
  }

  // It does not where two positions have the same offset, as in a window wider than the input.
  bool fits_byte() const {
    const auto found = offsets();
    return found.size() <= 256 &&
           std::set<int64_t>(found.begin(), found.end()).size() == found.size();
  }
};

// The indices that max pooling returned, as positions in their windows.
struct SavedIndices : Saved {
  static constexpr int64_t CHUNK = 1 << 16, CHUNK_ELSEWHERE = 1 << 22;  // elements

  Window window;
  Tensor positions;

  SavedIndices(const Tensor& indices, Window given) : window(std::move(given)) {
    positions = at::empty_like(indices, indices.options().dtype(at::kByte));
    const auto offsets = window.offsets();
    std::vector<int64_t> table(size_t(*std::max_element(offsets.begin(), offsets.end())) + 1, 0);
    for (size_t i = 0; i < offsets.size(); i++) table[size_t(offsets[i])] = int64_t(i);
    if (is_ours(indices)) {
      convert<int64_t, uint8_t>(indices, positions, [&](int64_t index, int64_t start) {
        return uint8_t(table[size_t(index - start)]);
      });
      return;
    }
    const auto lookup = at::tensor(table, at::kByte).to(indices.device());
    const auto starts = starts_of(indices);
    by_parts(indices, [&](int64_t from, int64_t to) {
      positions.slice(0, from, to).copy_(at::take(lookup, indices.slice(0, from, to) - starts));
    });
  }

  Tensor restore() override {
    auto indices = at::empty_like(positions, positions.options().dtype(at::kLong));
    const auto offsets = window.offsets();
    if (is_ours(positions)) {
      convert<uint8_t, int64_t>(positions, indices, [&](uint8_t position, int64_t start) {
        return start + offsets[position];
      });
      return indices;
    }
    const auto lookup = at::tensor(offsets, at::kLong).to(positions.device());
    const auto starts = starts_of(positions);
    by_parts(positions, [&](int64_t from, int64_t to) {
      indices.slice(0, from, to)
          .copy_(at::take(lookup, positions.slice(0, from, to).to(at::kLong)) + starts);
    });
    return indices;
  }

 private:
  bool is_ours(const Tensor& pooled) const { return are_ours(pooled) && pooled.is_contiguous(); }

  // Contiguous tensors, element by element.
  template <class From, class To, class Run>
  void convert(const Tensor& given, const Tensor& made, const Run& run) const {
    const size_t dimensions = window.size.size();
    const auto steps = window.index_steps();
    const auto counts = given.sizes().slice(size_t(given.dim()) - dimensions).vec();
    const int64_t of_image = c10::multiply_integers(counts);
    if (of_image == 0 || given.numel() == 0) return;
    const int64_t row = counts.back(), rows = given.numel() / row;
    const auto* from = given.const_data_ptr<From>();
    auto* to = made.mutable_data_ptr<To>();
    at::parallel_for(0, rows, std::max<int64_t>(1, CHUNK / row), [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; r++) {
        int64_t start = -window.padding.back(), left = r % (of_image / row);
        for (size_t d = dimensions - 1; d > 0; d--) {
          start +=
              (left % counts[d - 1] * window.stride[d - 1] - window.padding[d - 1]) * steps[d - 1];
          left /= counts[d - 1];
        }
        for (int64_t i = 0; i < row; i++) {
          to[r * row + i] = run(from[r * row + i], start);
          start += window.stride.back();
        }
      }
    });
  }

  // The index at which each window starts; negative or too small where it starts in the padding.
  Tensor starts_of(const Tensor& pooled) const {
    const size_t dimensions = window.size.size();
    const auto steps = window.index_steps();
    auto total = at::zeros({}, pooled.options().dtype(at::kLong));
    for (size_t d = 0; d < dimensions; d++) {
      std::vector<int64_t> shape(dimensions, 1);
      shape[d] = -1;
      const auto count = pooled.size(pooled.dim() - int64_t(dimensions - d));
      const auto along = at::arange(count, total.options()) * window.stride[d] - window.padding[d];
      total = total + (along * steps[d]).view(shape);
    }
    return total;
  }

  // Slices of the first dimension, so that the int64 scratch of each stays small.
  template <class Run>
  void by_parts(const Tensor& pooled, const Run& run) const {
    const bool has_batch = pooled.dim() > int64_t(window.size.size());
    const int64_t images = has_batch ? pooled.size(0) : 1;
    if (!has_batch) return run(0, pooled.size(0));
    const int64_t chunk = pooled.device().is_cpu() ? CHUNK : CHUNK_ELSEWHERE;
    const int64_t step = std::max<int64_t>(
        1, chunk / std::max<int64_t>(1, pooled.numel() / std::max<int64_t>(1, images)));
    for (int64_t from = 0; from < images; from += step) run(from, std::min(images, from + step));
  }
};

}  // namespace freezekit
