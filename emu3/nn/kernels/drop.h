// Which numbers are dropped: by the seed and a number's place alone, so that a kernel and the one
// of its slopes, and a layer that is computed again, drop the same.
#pragma once

#include "arithmetic.h"

// Mixes 32 bits: what differs by a bit at first differs by about 16 (Wellons 2018, lowbias32).
template <class Bits>
inline Bits mixed(Bits x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

inline Words lanes() {
  Words out;
  for (int i = 0; i < LANES; ++i) out[i] = uint32_t(i);
  return out;
}

// A seed that is another one wherever a number of x is: activations differ from step to step.
inline uint32_t seed_of(const float *x, int64_t size, uint32_t first) {
  Words sum = {}, place = lanes();
  for (int64_t i = 0; i < size; i += LANES, place += uint32_t(LANES)) {
    const int64_t count = std::min<int64_t>(LANES, size - i);
    const Floats values = some(x + i, count);
    Words bits;
    std::memcpy(&bits, &values, sizeof bits);
    bits = mixed(bits ^ place * 0x9e3779b1u);
    if (count < LANES)
      for (int lane = int(count); lane < LANES; ++lane) bits[lane] = 0;
    sum += bits;
  }
  uint32_t seed = first;
  for (int lane = 0; lane < LANES; ++lane) seed += sum[lane];
  return mixed(seed);
}

class Drop {
 public:
  // Drops a number in about threshold / 2^32 cases and scales up the others.
  Drop(uint32_t threshold, uint32_t seed)
      : threshold_(threshold), seed_(seed), scale_(float(1.0 / (1.0 - threshold * 0x1p-32))) {}

  // What LANES numbers from a place on are multiplied by.
  Floats factors(int64_t place) const {
    const Words chance = mixed((lanes() + uint32_t(place)) * 0x9e3779b1u + seed_);
    return chance >= threshold_ ? every(scale_) : Floats{};
  }

  void row(float *values, int64_t count, int64_t place) const {
    for (int64_t i = 0; i < count; i += LANES)
      store(values + i, load(values + i) * factors(place + i));
  }

 private:
  uint32_t threshold_, seed_;
  float scale_;
};
