// A decoding step between its products: queries and keys turned, keys and values into the cache,
// attention over the slots that are seen. The cache is float32, or bfloat16 as uint16_t.
//
// Legend: R rows, W places of each, H query heads, G key/value heads, D head width, S slots.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "arithmetic.h"
#include "team.h"

constexpr float UNSEEN = -1e38f;  // emu3/nn/attention.py adds MASKED, below this, to what is hidden

struct StepSizes {
  int64_t rows, places, heads, groups, width, slots;
  int64_t line() const { return (heads + 2 * groups) * width; }
};

// x (R*W, (H+2G)*D), cos and sin (R*W, D), bias (R, 1, W, S), places (R*W*G), keys and values
// (R*G*S, D), which are written at those places.
template <class Cache>
struct StepInputs {
  const float *x, *cos, *sin, *bias;
  const int32_t *places;
  Cache *keys, *values;
};

inline void keep(float *to, float value) { *to = value; }

// To the nearest bfloat16, of two the even one.
inline void keep(uint16_t *to, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const bool number = (bits & 0x7fffffffu) <= 0x7f800000u;
  *to = uint16_t(number ? (bits + 0x7fffu + (bits >> 16 & 1)) >> 16 : bits >> 16 | 0x40);
}

// The sum of a[i] * b[i].
template <class Cache>
inline Floats products_of(const float *a, const Cache *b, int64_t count) {
  Floats sum = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) sum += load(a + i) * load(b + i);
  if (i < count) sum += load_some(a + i, count - i) * load_some(b + i, count - i);
  return sum;
}

// to += factor * from.
template <class Cache>
inline void add(float *to, const Cache *from, float factor, int64_t count) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) store(to + i, load(to + i) + factor * load(from + i));
  if (i < count)
    store_first(to + i, load_first(to + i, count - i) + factor * load_some(from + i, count - i),
                count - i);
}

// to = x turned by the angles of cos and sin; sin has the sign of the half that it is added to.
template <class Cache>
inline void turn(Cache *to, const float *x, const float *cos, const float *sin, int64_t width) {
  const int64_t half = width / 2;
  for (int64_t i = 0; i < half; ++i) {
    keep(to + i, x[i] * cos[i] + x[i + half] * sin[i]);
    keep(to + i + half, x[i + half] * cos[i + half] + x[i] * sin[i + half]);
  }
}

// score[s - begin] = query times key s, scaled, plus bias, for all slots of a stretch; the largest.
template <class Cache>
float scores(const float *query, const Cache *keys, const float *bias, int64_t begin, int64_t end,
             int64_t width, float *score) {
  const float scale = 1.0f / std::sqrt(float(width));
  float most = UNSEEN;
  for (int64_t s = begin; s < end; s += LANES) {
    const int64_t count = std::min<int64_t>(LANES, end - s);
    Floats sums[LANES] = {};
    for (int64_t i = 0; i < count; ++i) sums[i] = products_of(query, keys + (s + i) * width, width);
    float each[LANES];
    totals<LANES>(sums, each);
    for (int64_t i = 0; i < count; ++i) {
      score[s - begin + i] = each[i] * scale + bias[s + i];
      most = std::max(most, score[s - begin + i]);
    }
  }
  return most;
}

// The queries of group g in row r, after its new keys and values are in the cache: out (R*W, H*D).
template <class Cache>
void attend(const StepSizes &n, const StepInputs<Cache> &in, int64_t r, int64_t g, float *out) {
  const int64_t d = n.width, each = n.heads / n.groups;
  for (int64_t w = 0; w < n.places; ++w) {
    const int64_t at = r * n.places + w, place = in.places[at * n.groups + g];
    const float *key = in.x + at * n.line() + (n.heads + g) * d;
    turn(in.keys + place * d, key, in.cos + at * d, in.sin + at * d, d);
    for (int64_t i = 0; i < d; ++i) keep(in.values + place * d + i, key[n.groups * d + i]);
  }
  const Cache *keys = in.keys + (r * n.groups + g) * n.slots * d;
  const Cache *values = in.values + (r * n.groups + g) * n.slots * d;
  Scratch scratch(d + n.slots + LANES);
  float *query = scratch.get(), *score = query + d;
  for (int64_t w = 0; w < n.places; ++w) {
    const int64_t at = r * n.places + w;
    const float *seen = in.bias + at * n.slots;
    int64_t begin = 0, end = n.slots;  // slots before the prompt and behind the place are hidden
    while (begin < end && seen[begin] <= UNSEEN) ++begin;
    while (begin < end && seen[end - 1] <= UNSEEN) --end;
    for (int64_t h = g * each; h < (g + 1) * each; ++h) {
      turn(query, in.x + at * n.line() + h * d, in.cos + at * d, in.sin + at * d, d);
      const float most = scores(query, keys, seen, begin, end, d, score);
      float *to = out + (at * n.heads + h) * d;
      std::fill(to, to + d, 0.0f);
      float sum = 0;
      for (int64_t s = begin; s < end; s += LANES) {
        const int64_t count = std::min<int64_t>(LANES, end - s);
        store(score + s - begin, exponential(load(score + s - begin) - most));
        for (int64_t i = 0; i < count; ++i) {
          const float weight = score[s - begin + i];
          if (weight == 0) continue;  // hidden ones among them
          sum += weight;
          add(to, values + (s + i) * d, weight, d);
        }
      }
      for (int64_t i = 0; i < d; ++i) to[i] /= sum;
    }
  }
}

// All rows and groups.
template <class Cache>
void step_attention_of(const StepSizes &n, const StepInputs<Cache> &in, float *out) {
  Team::get().run(n.rows * n.groups,
                  [&](int64_t i) { attend(n, in, i / n.groups, i % n.groups, out); });
}
