// Memory for gradients of the logits' size, reused between calls: the system's zeroing of fresh pages costs more
// than the loss itself.
#pragma once

#include <cstddef>

namespace groupgrad::tensorflow {

struct Buffer {
  void* data = nullptr;
  size_t bytes = 0;
};

// At least `bytes`, aligned to a page; without data if allocation fails. One buffer is kept between calls, the
// largest that was released, so that a process retains no more than it has needed at once.
Buffer acquireBuffer(size_t bytes);
void releaseBuffer(Buffer);

}  // namespace groupgrad::tensorflow
