// A decoding step between its products: queries and keys turned, keys and values into the cache,
// attention over the slots that are seen.
//
// Legend: R rows, W places of each, H query heads, G key/value heads, D head width, S slots.

#include <algorithm>
#include <cmath>
#include <vector>

#include "team.h"
#include "vectors.h"

namespace {

constexpr float UNSEEN = -1e38f;  // emu3/nn/attention.py adds MASKED, below this, to what is hidden

struct Sizes {
  int64_t rows, places, heads, groups, width, slots;
};

// The sum of a[i] * b[i].
inline float dot(const float *a, const float *b, int64_t count) {
  Floats sum = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) sum += load(a + i) * load(b + i);
  if (i < count) sum += load_some(a + i, count - i) * load_some(b + i, count - i);
  return total(sum);
}

inline void add(float *to, const float *from, float factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += factor * from[i];
}

// to = x turned by the angles of cos and sin; sin has the sign of the half that it is added to.
inline void turn(float *to, const float *x, const float *cos, const float *sin, int64_t width) {
  const int64_t half = width / 2;
  for (int64_t i = 0; i < half; ++i) {
    to[i] = x[i] * cos[i] + x[i + half] * sin[i];
    to[i + half] = x[i + half] * cos[i + half] + x[i] * sin[i + half];
  }
}

// The queries of group g in row r, after its new keys and values are in the cache.
void attend(const Sizes &n, int64_t r, int64_t g, const float *x, const float *cos,
            const float *sin, const float *bias, const int32_t *places, float *keys,
            float *values, float *out) {
  const int64_t d = n.width, each = n.heads / n.groups, line = (n.heads + 2 * n.groups) * d;
  for (int64_t w = 0; w < n.places; ++w) {
    const int64_t at = r * n.places + w;
    const float *key = x + at * line + (n.heads + g) * d;
    const int64_t place = places[at * n.groups + g];
    turn(keys + place * d, key, cos + at * d, sin + at * d, d);
    std::copy(key + n.groups * d, key + (n.groups + 1) * d, values + place * d);
  }
  const float *own_keys = keys + (r * n.groups + g) * n.slots * d;
  const float *own_values = values + (r * n.groups + g) * n.slots * d;
  std::vector<float> scratch(d + n.slots);
  float *query = scratch.data(), *score = query + d;
  const float scale = 1.0f / std::sqrt(float(d));
  for (int64_t w = 0; w < n.places; ++w) {
    const int64_t at = r * n.places + w;
    const float *seen = bias + at * n.slots;
    for (int64_t h = g * each; h < (g + 1) * each; ++h) {
      turn(query, x + at * line + h * d, cos + at * d, sin + at * d, d);
      float most = UNSEEN, sum = 0;
      for (int64_t s = 0; s < n.slots; ++s) {
        if (seen[s] <= UNSEEN) continue;
        score[s] = dot(query, own_keys + s * d, d) * scale + seen[s];
        most = std::max(most, score[s]);
      }
      float *to = out + (at * n.heads + h) * d;
      std::fill(to, to + d, 0.0f);
      for (int64_t s = 0; s < n.slots; ++s) {
        if (seen[s] <= UNSEEN) continue;
        const float weight = std::exp(score[s] - most);
        sum += weight;
        add(to, own_values + s * d, weight, d);
      }
      for (int64_t i = 0; i < d; ++i) to[i] /= sum;
    }
  }
}

}  // namespace

// x (R*W, (H+2G)*D), cos and sin (R*W, D), bias (R, 1, W, S), places (R*W*G) int32, keys and values
// (R*G*S, D), which are written at those places -> (R*W, H*D).
extern "C" int step_attention(int, void **data, int *, int64_t **shape, const char **, void *,
                              void *) {
  Sizes n;
  n.rows = shape[3][0], n.places = shape[3][2], n.slots = shape[3][3], n.width = shape[5][1];
  n.groups = shape[5][0] / n.rows / n.slots;
  n.heads = shape[0][1] / n.width - 2 * n.groups;
  Team::get().run(n.rows * n.groups, [&](int64_t i) {
    attend(n, i / n.groups, i % n.groups, (const float *)data[0], (const float *)data[1],
           (const float *)data[2], (const float *)data[3], (const int32_t *)data[4],
           (float *)data[5], (float *)data[6], (float *)data[7]);
  });
  return 0;
}
