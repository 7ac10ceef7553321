// Vectors of float32 as wide as the processor's, and how stored weights become such.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

inline Floats load(const float *from) {
  Floats out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

// bfloat16 is the upper half of a float32.
inline Floats load(const uint16_t *from) {
#if defined(__AVX512F__)
  __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
  return (Floats)_mm512_slli_epi32(wide, 16);
#elif defined(__AVX2__)
  __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
  return (Floats)_mm256_slli_epi32(wide, 16);
#else
  Words out;
  for (int i = 0; i < LANES; ++i) out[i] = uint32_t(from[i]) << 16;
  return (Floats)out;
#endif
}

// Compilers' own conversion of 8-bit vectors was ten times slower than the instruction for it.
inline Floats load(const int8_t *from) {
#if defined(__AVX512F__)
  __m128i narrow = _mm_loadu_si128((const __m128i *)from);
  return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(narrow));
#elif defined(__AVX2__)
  __m128i narrow = _mm_loadl_epi64((const __m128i *)from);
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(narrow));
#else
  Floats out;
  for (int i = 0; i < LANES; ++i) out[i] = from[i];
  return out;
#endif
}

// The first `count` values, zeros behind them.
template <class Value>
inline Floats load_some(const Value *from, int64_t count) {
  Value padded[LANES] = {};
  std::memcpy(padded, from, count * sizeof(Value));
  return load(padded);
}

// Lane i of the result is lane place[i] of a and b behind it; the places are known beforehand.
inline Floats chosen(Floats a, Floats b, Words place) {
#if defined(__clang__)
  Floats out;
  for (int i = 0; i < LANES; ++i) out[i] = place[i] < LANES ? a[place[i]] : b[place[i] - LANES];
  return out;
#else
  return __builtin_shuffle(a, b, place);
#endif
}

// Lane i of the result is a lane of a, or behind those of b: the first halves of their stretches of
// 2 * half lanes, or with `second` the second ones.
template <int half, bool second>
inline Floats halves(Floats a, Floats b) {
  Words place;
  for (int i = 0; i < LANES; ++i) place[i] = i / half * 2 * half + i % half + (second ? half : 0);
  return chosen(a, b, place);
}

// Stretches of `half` lanes from a and b in turn: the first ones of each two, or the `second` ones.
template <int half, bool second>
inline Floats woven(Floats a, Floats b) {
  Words place;
  for (int i = 0; i < LANES; ++i)
    place[i] = (i & half ? LANES + i - half : i) + (second ? half : 0);
  return chosen(a, b, place);
}

// The sums of all lanes of each of `count` vectors, up to LANES of them, halves first.
template <int count, int half = LANES / 2>
inline void totals(const Floats *values, float *out) {
  if constexpr (half == 0) {
    std::memcpy(out, values, count * sizeof(float));
  } else {
    // After this step a vector holds twice as many sums, each in half as many lanes.
    constexpr int together = LANES / 2 / half, vectors = (count + together - 1) / together;
    Floats added[(vectors + 1) / 2];
    for (int i = 0; i < vectors; i += 2) {
      const Floats a = values[i], b = values[i + 1 < vectors ? i + 1 : i];
      added[i / 2] = halves<half, false>(a, b) + halves<half, true>(a, b);
    }
    totals<count, half / 2>(added, out);
  }
}

// The sum of all lanes, halves first.
inline float total(Floats values) {
  float out;
  totals<1>(&values, &out);
  return out;
}
