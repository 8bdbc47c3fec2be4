#include "buffers.hpp"

#include <cstdlib>
#include <mutex>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace groupgrad::tensorflow {

namespace {

// Size of a huge page, if available.
constexpr size_t kAlignment = size_t(2) << 20;

std::mutex mutex;
Buffer spare;

Buffer allocate(size_t bytes) {
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
#if defined(_WIN32)
  void* data = std::malloc(rounded);  // its C library frees aligned memory by a function of its own
#else
  void* data = std::aligned_alloc(kAlignment, rounded);
#endif
  if (!data) return {};
#if defined(__linux__)
  madvise(data, rounded, MADV_HUGEPAGE);  // fewer faults and TLB misses; refused where the system has none
#endif
  return {data, rounded};
}

}  // namespace

Buffer acquireBuffer(size_t bytes) {
  {
    const std::lock_guard lock(mutex);
    if (spare.bytes >= bytes) return std::exchange(spare, {});
    std::free(std::exchange(spare, {}).data);  // too small: it makes room
  }
  return allocate(bytes);
}

void releaseBuffer(Buffer buffer) {
  const std::lock_guard lock(mutex);
  if (buffer.bytes > spare.bytes) std::swap(buffer, spare);
  std::free(buffer.data);
}

}  // namespace groupgrad::tensorflow
