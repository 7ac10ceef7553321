// y (M, N) = x (M, K) times the transpose of w (N, K), for the many rows of a prompt.
//
// Work goes to threads in small pieces, so that one that is held up holds nobody up. Sums over K
// are in one order whatever the rows beside and the threads.

#include "team.h"
#include "tiles.h"

namespace {

constexpr int64_t DEEP = 512;    // of K at a time: a panel of it stays near
constexpr int64_t BLOCKS = 12;   // of rows that pass a thread's panels before the next
constexpr int64_t PANELS = 4;    // of a thread at a time, at most
constexpr int64_t PIECES = 16;   // for the threads, at least, where there are so many panels

struct Shape {
  int64_t m, n, k;
  int64_t blocks() const { return (m + BLOCK - 1) / BLOCK; }
  int64_t panels() const { return (n + PANEL - 1) / PANEL; }
};

// Panels first..end-1 of w against all packed rows of x.
void strip(const Shape &size, const float *packed, const float *w, float *y, int64_t first,
           int64_t end, float *room) {
  for (int64_t k = 0; k < size.k; k += DEEP) {
    const int64_t deep = std::min(DEEP, size.k - k);
    for (int64_t p = first; p < end; ++p)
      pack_rows<PANEL>(w + p * PANEL * size.k + k, size.k,
                       std::min<int64_t>(PANEL, size.n - p * PANEL), deep,
                       room + (p - first) * DEEP * PANEL);
    for (int64_t from = 0; from < size.blocks(); from += BLOCKS)
      for (int64_t p = first; p < end; ++p)
        for (int64_t block = from; block < std::min(size.blocks(), from + BLOCKS); ++block)
          block_by_panel(std::min<int64_t>(BLOCK, size.m - block * BLOCK),
                         packed + (block * size.k + k) * BLOCK, room + (p - first) * DEEP * PANEL,
                         deep, y + block * BLOCK * size.n + p * PANEL, size.n,
                         std::min<int64_t>(PANEL, size.n - p * PANEL), k > 0);
  }
}

}  // namespace

extern "C" int matmul(int, void **data, int *, int64_t **shape, const char **, void *, void *) {
  const float *x = (const float *)data[0], *w = (const float *)data[1];
  float *y = (float *)data[2];
  const Shape size{shape[0][0], shape[1][0], shape[0][1]};
  Scratch packed(size.blocks() * BLOCK * size.k);
  Team::get().run(size.blocks(), [&](int64_t block) {
    const int64_t first = block * BLOCK;
    pack_rows<BLOCK>(x + first * size.k, size.k, std::min<int64_t>(BLOCK, size.m - first), size.k,
                     packed.get() + first * size.k);
  });
  const int64_t many = std::clamp<int64_t>(size.panels() / PIECES, 1, PANELS);
  Team::get().run((size.panels() + many - 1) / many, [&](int64_t piece) {
    const int64_t first = piece * many;
    Scratch room(many * DEEP * PANEL);
    strip(size, packed.get(), w, y, first, std::min(size.panels(), first + many), room.get());
  });
  return 0;
}
