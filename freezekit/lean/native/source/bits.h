// One bit for each element of a tensor: made, and used, with vector instructions where there are
// some.
//
// The first element of a byte is its lowest bit. Threads share the work as torch's own kernels do.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <array>
#include <cmath>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// A loop that is worth the widest vectors that the processor has.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FREEZEKIT_HOT \
  __attribute__((optimize("O3"), target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FREEZEKIT_HOT
#endif

namespace freezekit {

using at::Tensor;

// Elements for which a further thread pays; a multiple of 64, so that no byte has two writers.
constexpr int64_t GRAIN = 1 << 16;

// A comparison that makes a bit, as BitEncoding in freezekit/lean/bits.py describes it. The bounds
// are rounded to the type that torch's kernels compare in.
struct Comparison {
  double low, high;
  bool inside;
};

// C is float or double. A bound that is infinite is not compared: NaN then gives what it must.
template <class C>
inline bool bit_of(C value, C low, C high, bool inside, bool one_bound) {
  if (inside) return one_bound ? value > low : (value > low) & (value < high);
  return one_bound ? value <= low : (value <= low) | (value >= high);
}

template <class T, class C>
void pack_plain(const T* values, uint8_t* bits, int64_t count, Comparison how) {
  const C low = static_cast<C>(how.low), high = static_cast<C>(how.high);
  const bool one_bound = std::isinf(how.high), inside = how.inside;
  for (int64_t i = 0; i < count; i += 8) {
    uint8_t byte = 0;
    const int64_t left = std::min<int64_t>(8, count - i);
    for (int64_t k = 0; k < left; k++)
      byte |= uint8_t(bit_of<C>(static_cast<C>(values[i + k]), low, high, inside, one_bound)) << k;
    bits[i / 8] = byte;
  }
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw"))) inline int64_t pack_avx512(const float* values,
                                                                       uint8_t* bits, int64_t count,
                                                                       Comparison how) {
  const auto low = _mm512_set1_ps(float(how.low)), high = _mm512_set1_ps(float(how.high));
  const bool one_bound = std::isinf(how.high);
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const auto v = _mm512_loadu_ps(values + i);
    __mmask16 mask;
    if (how.inside) {
      mask = _mm512_cmp_ps_mask(v, low, _CMP_GT_OQ);
      if (!one_bound) mask &= _mm512_cmp_ps_mask(v, high, _CMP_LT_OQ);
    } else {
      mask = _mm512_cmp_ps_mask(v, low, _CMP_LE_OQ);
      if (!one_bound) mask |= _mm512_cmp_ps_mask(v, high, _CMP_GE_OQ);
    }
    const uint16_t word = mask;
    std::memcpy(bits + i / 8, &word, 2);
  }
  return i;
}

__attribute__((target("avx2"))) inline int64_t pack_avx2(const float* values, uint8_t* bits,
                                                         int64_t count, Comparison how) {
  const auto low = _mm256_set1_ps(float(how.low)), high = _mm256_set1_ps(float(how.high));
  const bool one_bound = std::isinf(how.high);
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const auto v = _mm256_loadu_ps(values + i);
    __m256 mask;
    if (how.inside) {
      mask = _mm256_cmp_ps(v, low, _CMP_GT_OQ);
      if (!one_bound) mask = _mm256_and_ps(mask, _mm256_cmp_ps(v, high, _CMP_LT_OQ));
    } else {
      mask = _mm256_cmp_ps(v, low, _CMP_LE_OQ);
      if (!one_bound) mask = _mm256_or_ps(mask, _mm256_cmp_ps(v, high, _CMP_GE_OQ));
    }
    bits[i / 8] = uint8_t(_mm256_movemask_ps(mask));
  }
  return i;
}
#endif

// Returns how many elements the vector instructions have packed; a multiple of 8.
inline int64_t pack_with_vectors(const float* values, uint8_t* bits, int64_t count,
                                 Comparison how) {
#if defined(__x86_64__)
  static const int level = __builtin_cpu_supports("avx512bw") ? 2
                           : __builtin_cpu_supports("avx2")   ? 1
                                                              : 0;
  if (level == 2) return pack_avx512(values, bits, count, how);
  if (level == 1) return pack_avx2(values, bits, count, how);
#endif
  return 0;
}

template <class T>
void pack_range(const T* values, uint8_t* bits, int64_t count, Comparison how) {
  if constexpr (std::is_same_v<T, float>) {
    const int64_t done = pack_with_vectors(values, bits, count, how);
    pack_plain<float, float>(values + done, bits + done / 8, count - done, how);
  } else if constexpr (std::is_same_v<T, double>) {
    pack_plain<double, double>(values, bits, count, how);
  } else {
    pack_plain<T, float>(values, bits, count, how);
  }
}

// Off, the CPU takes the way of devices that have no kernels here. Tests switch them off.
inline bool kernels_are_on = true;

// Whether the bits of a tensor are packed, or were packed, by the kernels here.
inline bool are_ours(const Tensor& bits) { return kernels_are_on && bits.device().is_cpu(); }

inline bool has_kernels(const Tensor& tensor) {
  if (!are_ours(tensor)) return false;
  switch (tensor.scalar_type()) {
    case at::kFloat:
    case at::kDouble:
    case at::kHalf:
    case at::kBFloat16:
    case at::kByte:
      return true;
    default:
      return false;
  }
}

template <class Run>
void in_parallel(int64_t count, const Run& run) {
  at::parallel_for(0, (count + 63) / 64, GRAIN / 64, [&](int64_t start, int64_t stop) {
    run(start * 64, std::min(stop * 64, count) - start * 64);
  });
}

// The bits of a dense tensor, in the order of its memory.
inline Tensor pack(const Tensor& tensor, Comparison how) {
  const int64_t count = tensor.numel();
  auto bits = at::empty({(count + 7) / 8}, tensor.options().dtype(at::kByte).requires_grad(false));
  auto* target = bits.mutable_data_ptr<uint8_t>();
  AT_DISPATCH_FLOATING_TYPES_AND3(at::kHalf, at::kBFloat16, at::kByte, tensor.scalar_type(), "pack",
                                  [&] {
                                    const auto* values = tensor.const_data_ptr<scalar_t>();
                                    in_parallel(count, [&](int64_t start, int64_t size) {
                                      pack_range(values + start, target + start / 8, size, how);
                                    });
                                  });
  return bits;
}

// For each byte the eight words that its bits select: all ones, or 0. T is an unsigned integer.
template <class T>
const std::array<std::array<T, 8>, 256>& words_of_bytes() {
  static const auto table = [] {
    std::array<std::array<T, 8>, 256> made;
    for (int byte = 0; byte < 256; byte++)
      for (int k = 0; k < 8; k++) made[byte][k] = byte >> k & 1 ? T(~T(0)) : T(0);
    return made;
  }();
  return table;
}

template <class T>
void select_range(const T* from, const uint8_t* bits, uint8_t flip, T* to, int64_t count) {
  const auto& table = words_of_bytes<T>();
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const auto& words = table[uint8_t(bits[i / 8] ^ flip)];
    for (int k = 0; k < 8; k++) to[i + k] = from[i + k] & words[k];
  }
  for (; i < count; i++) to[i] = (bits[i / 8] ^ flip) >> (i % 8) & 1 ? from[i] : T(0);
}

// A copy of a dense tensor with 0 where the bit is not `bit`; it has the strides of the tensor.
inline Tensor select(const Tensor& tensor, const Tensor& bits, bool bit) {
  auto out = at::empty_like(tensor);
  const auto* packed = bits.const_data_ptr<uint8_t>();
  const uint8_t flip = bit ? 0 : 0xFF;
  const auto run = [&](auto word) {
    using T = decltype(word);
    const auto* from = static_cast<const T*>(tensor.const_data_ptr());
    auto* to = static_cast<T*>(out.mutable_data_ptr());
    in_parallel(tensor.numel(), [&](int64_t start, int64_t size) {
      select_range<T>(from + start, packed + start / 8, flip, to + start, size);
    });
  };
  switch (tensor.element_size()) {
    case 2:
      run(uint16_t());
      break;
    case 4:
      run(uint32_t());
      break;
    default:
      run(uint64_t());
      break;
  }
  return out;
}

// A value for each bit: shape (count,).
inline Tensor unpack(const Tensor& bits, int64_t count, double zero, double one,
                     at::ScalarType type) {
  auto out = at::empty({count}, bits.options().dtype(type));
  const auto* packed = bits.const_data_ptr<uint8_t>();
  AT_DISPATCH_FLOATING_TYPES_AND3(at::kHalf, at::kBFloat16, at::kBool, type, "unpack", [&] {
    const auto low = static_cast<scalar_t>(zero), high = static_cast<scalar_t>(one);
    auto* to = out.mutable_data_ptr<scalar_t>();
    in_parallel(count, [&](int64_t start, int64_t size) {
      for (int64_t i = start; i < start + size; i++)
        to[i] = packed[i / 8] >> (i % 8) & 1 ? high : low;
    });
  });
  return out;
}

}  // namespace freezekit
