// Runs one kernel in a process of another processor: arguments on stdin, arrays back on stdout.
//
// In: the kernel's name, threads and the number of arrays; for each its number of axes, its bytes,
// its shape and what it holds. All numbers are int64. Out: what the arrays hold then.

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace {

int64_t number() {
  int64_t value = 0;
  return fread(&value, sizeof value, 1, stdin) == 1 ? value : 0;
}

std::vector<char> bytes(int64_t count) {
  std::vector<char> all(static_cast<size_t>(count));
  if (fread(all.data(), 1, all.size(), stdin) != all.size()) all.clear();
  return all;
}

}  // namespace

int main() {
  const std::vector<char> letters = bytes(number());
  const std::string name(letters.begin(), letters.end());
  const int64_t threads = number(), count = number();
  std::vector<std::vector<char>> held;
  std::vector<std::vector<int64_t>> shapes;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t axes = number(), size = number();
    shapes.emplace_back();
    for (int64_t axis = 0; axis < axes; ++axis) shapes.back().push_back(number());
    held.push_back(bytes(size));
  }
  std::vector<void *> data;
  std::vector<int> axes;
  std::vector<int64_t *> shape;
  for (int64_t i = 0; i < count; ++i) {
    data.push_back(held[i].data());
    axes.push_back(int(shapes[i].size()));
    shape.push_back(shapes[i].data());
  }
  using Kernel = int (*)(int, void **, int *, int64_t **, const char **, void *, void *);
  const auto set_threads = (void (*)(int))dlsym(nullptr, "set_threads");
  const auto kernel = (Kernel)dlsym(nullptr, name.c_str());
  if (set_threads == nullptr || kernel == nullptr) return 3;
  set_threads(int(threads));
  const int failed = kernel(int(count), data.data(), axes.data(), shape.data(), nullptr, nullptr,
                            nullptr);
  if (failed) return 4;
  for (const auto &array : held) fwrite(array.data(), 1, array.size(), stdout);
  fflush(stdout);
  _Exit(0);  // workers never end
}
