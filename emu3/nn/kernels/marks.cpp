// Whether tensors hold what they held: a mark of all their bits, at the speed of reading them.
//
// Words of 32 bits are digits of two numbers to odd bases, one number a lane and a stretch: a word
// that changes alone always changes both, words that change together keep them once in 2^64.

#include <string>
#include <vector>

#include "arithmetic.h"
#include "team.h"

namespace {

constexpr int64_t STRETCH = 1 << 18;  // bytes
constexpr uint32_t BASES[2] = {0x01000193u, 0x9E3779B1u};

// As many on every processor, so that marks are the same.
typedef uint32_t Digits __attribute__((vector_size(64)));

int64_t bytes_of(const std::string &dtype) {
  if (dtype == "int8") return 1;
  return dtype == "bfloat16" || dtype == "float16" || dtype == "uint16" ? 2 : 4;
}

struct Mark {
  uint64_t halves[2];
};

Mark mark_of(const char *from, int64_t count) {
  Digits sums[2] = {};
  for (int64_t at = 0; at < count; at += sizeof(Digits)) {
    Digits word = {};
    std::memcpy(&word, from + at, std::min<int64_t>(sizeof word, count - at));
    for (int i = 0; i < 2; ++i) sums[i] = sums[i] * BASES[i] + word;
  }
  Mark mark = {};
  for (size_t lane = 0; lane < sizeof(Digits) / 4; ++lane)
    for (int i = 0; i < 2; ++i) mark.halves[i] = mark.halves[i] * BASES[1 - i] + sums[i][lane];
  return mark;
}

}  // namespace

// Tensors of any shapes -> (4,) int32
extern "C" int marks(int count, void **data, int *axes, int64_t **shape, const char **dtypes, void *,
                     void *) {
  struct Piece {
    const char *from;
    int64_t bytes;
  };
  std::vector<Piece> all;
  for (int i = 0; i + 1 < count; ++i) {
    const int64_t bytes = product_of(shape[i], axes[i]) * bytes_of(dtypes ? dtypes[i] : "");
    for (int64_t at = 0; at < bytes; at += STRETCH)
      all.push_back({(const char *)data[i] + at, std::min(STRETCH, bytes - at)});
  }
  std::vector<Mark> found(all.size());
  Team::get().run(int64_t(all.size()),
                  [&](int64_t i) { found[i] = mark_of(all[i].from, all[i].bytes); });
  Mark sum = {};
  for (const Mark &mark : found)
    for (int i = 0; i < 2; ++i) sum.halves[i] = sum.halves[i] * 0x100000001B3u + mark.halves[i];
  std::memcpy(data[count - 1], &sum, sizeof sum);
  return 0;
}
