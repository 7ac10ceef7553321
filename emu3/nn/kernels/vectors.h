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

// The sum of all lanes, halves first.
inline float total(Floats values) {
  float lane[LANES];
  std::memcpy(lane, &values, sizeof lane);
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
}
