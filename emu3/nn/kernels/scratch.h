// Memory that a kernel needs while it works, kept for the next one: pages that the system gives anew
// cost more than the work on them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <vector>

class Shelf {
 public:
  struct Room {
    float *begin;
    size_t bytes;
  };

  static Shelf &get() {
    static Shelf *shelf = new Shelf;  // never destroyed: threads outlive main()
    return *shelf;
  }

  // The smallest room kept that holds so many bytes, or a new one.
  Room take(size_t bytes) {
    std::lock_guard<std::mutex> turn(busy_);
    auto best = kept_.end();
    for (auto room = kept_.begin(); room != kept_.end(); ++room)
      if (room->bytes >= bytes && (best == kept_.end() || room->bytes < best->bytes)) best = room;
    if (best == kept_.end()) return {(float *)std::aligned_alloc(64, bytes), bytes};
    const Room room = *best;
    kept_.erase(best);
    held_ -= room.bytes;
    return room;
  }

  // Keeps a room; what was kept longest goes where all would be more than MOST.
  void give(Room room) {
    std::lock_guard<std::mutex> turn(busy_);
    kept_.push_back(room);
    held_ += room.bytes;
    while (held_ > MOST) {
      held_ -= kept_.front().bytes;
      std::free(kept_.front().begin);
      kept_.erase(kept_.begin());
    }
  }

 private:
  static constexpr size_t MOST = size_t(64) << 20;
  std::mutex busy_;
  std::vector<Room> kept_;
  size_t held_ = 0;
};

// Floats on a cache line's edge, given back with the block that took them.
class Scratch {
 public:
  explicit Scratch(int64_t count) : room_(Shelf::get().take(size_t(count * 4 + 127) / 64 * 64)) {}
  ~Scratch() {
    if (room_.begin) Shelf::get().give(room_);
  }
  Scratch(Scratch &&other) : room_(other.room_) { other.room_.begin = nullptr; }
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;
  float *get() const { return room_.begin; }

 private:
  Shelf::Room room_;
};
