// Shared by the CPU's operations: the kernels of an instruction set, threads, scratch memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "../../cpu/thread_pool.hpp"
#include "engine.hpp"
#include "kernels.hpp"

namespace groupgrad::engine::cpu {

// Uninitialised memory aligned to a cache line.
class Buffer {
 public:
  // At least this many bytes; contents are lost when it grows. std::bad_alloc if there is not enough memory.
  std::byte* reserve(int64_t bytes) {
    if (bytes > size_) {
      memory_.reset();
      size_ = 0;
      memory_.reset(static_cast<std::byte*>(::operator new(size_t(bytes), kAlignment)));
      size_ = bytes;
    }
    return memory_.get();
  }
  std::byte* data() const { return memory_.get(); }
  int64_t size() const { return size_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(std::byte* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  int64_t size_ = 0;
};

struct InstructionSet {
  const char* name;
  const Kernels* kernels;
  const ProductKernel* bfloat16;  // products of factors in bfloat16
};

class State {
 public:
  State();

  InstructionSet set;
  std::unique_ptr<groupgrad::cpu::ThreadPool> pool;
  Buffer strips;  // a right factor, packed for one product
  Buffer panels;  // a left factor, packed for one product

  const Kernels& kernels() const { return *set.kernels; }
  int threads() const { return pool->size(); }

  // Splits [0, size) among threads if each gets at least `least`. Results must not depend on the split; pieces
  // begin at multiples of 64.
  template <class F>
  void split(int64_t size, int64_t least, const F& body) {
    if (size < 2 * least || threads() == 1) return body(int64_t(0), size);
    const int64_t pieces = std::min<int64_t>(4 * threads(), size / least);
    const int64_t piece = ((size + pieces - 1) / pieces + 63) / 64 * 64;
    pool->forEach((size + piece - 1) / piece, threads(),
                  [&](int64_t i) { body(i * piece, std::min(size, (i + 1) * piece)); });
  }

  // Calls body(unit) for each of `units`, on several threads if `work` is at least `2 * least`.
  template <class F>
  void forEach(int64_t units, int64_t work, int64_t least, const F& body) {
    const int wanted = int(std::min<int64_t>(threads(), std::max<int64_t>(1, work / least)));
    if (units > 1 && wanted > 1) return pool->forEach(units, wanted, body);
    for (int64_t unit = 0; unit < units; ++unit) body(unit);
  }

  // Scratch memory of one thread at a time. Allocated before threads start, because they cannot report failure.
  void prepareScratch(int64_t bytes) {
    if (free_.empty()) {
      free_.reserve(size_t(threads()));
      scratch_.resize(size_t(threads()));
      for (Buffer& buffer : scratch_) free_.push_back(&buffer);
    }
    for (Buffer& buffer : scratch_) buffer.reserve(bytes);
  }
  class Scratch {
   public:
    explicit Scratch(State& state) : state_(state) {
      const std::lock_guard lock(state.mutex_);
      buffer_ = state.free_.back();
      state.free_.pop_back();
    }
    ~Scratch() {
      const std::lock_guard lock(state_.mutex_);
      state_.free_.push_back(buffer_);
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    std::byte* data() const { return buffer_->data(); }

   private:
    State& state_;
    Buffer* buffer_;
  };

  void setThreads(int threads) {
    pool = std::make_unique<groupgrad::cpu::ThreadPool>(threads);
    scratch_.clear();
    free_.clear();
  }

 private:
  std::mutex mutex_;
  std::vector<Buffer> scratch_;
  std::vector<Buffer*> free_;
};

// Minimum number of values that makes waking a thread worthwhile for an operation that reads and writes memory.
constexpr int64_t kValuesPerThread = 32768;

// Runs an operation's body; a failed allocation becomes a status.
template <class F>
Status guarded(const char* operation, const F& body) {
  try {
    body();
    return {};
  } catch (const std::bad_alloc&) {
    return Status::make(StatusCode::outOfMemory, "not enough memory for the scratch space of %s", operation);
  }
}

// Walks over all axes of a box but the last, as offsets of `count` arrays.
template <int count>
class Rows {
 public:
  Rows(int rank, const int64_t* shape, const std::array<const int64_t*, count>& strides)
      : axes_(rank - 1), shape_(shape), strides_(strides) {}
  static int64_t number(int rank, const int64_t* shape) {
    int64_t rows = 1;
    for (int axis = 0; axis + 1 < rank; ++axis) rows *= shape[axis];
    return rows;
  }
  void seek(int64_t row) {
    offsets.fill(0);
    for (int axis = axes_ - 1; axis >= 0; --axis) {
      index_[axis] = row % shape_[axis];
      row /= shape_[axis];
      for (int i = 0; i < count; ++i) offsets[size_t(i)] += index_[axis] * strides_[size_t(i)][axis];
    }
  }
  void next() {
    for (int axis = axes_ - 1; axis >= 0; --axis) {
      for (int i = 0; i < count; ++i) offsets[size_t(i)] += strides_[size_t(i)][axis];
      if (++index_[axis] < shape_[axis]) return;
      index_[axis] = 0;
      for (int i = 0; i < count; ++i) offsets[size_t(i)] -= shape_[axis] * strides_[size_t(i)][axis];
    }
  }
  std::array<int64_t, count> offsets{};

 private:
  int axes_;
  const int64_t* shape_;
  std::array<const int64_t*, count> strides_;
  int64_t index_[kMaxRank] = {};
};

// The sum of a row by the steps of a ReduceRequest.
double sumInPieces(const Kernels&, const float* x, int64_t n);

// One operation per file; table.cpp collects them.
Status unary(void* state, const UnaryRequest&);
Status binary(void* state, const BinaryRequest&);
Status select(void* state, const SelectRequest&);
Status cast(void* state, const CastRequest&);
Status addN(void* state, const AddNRequest&);
Status copy(void* state, const CopyRequest&);
Status fill(void* state, const FillRequest&);
Status reduce(void* state, const ReduceRequest&);
Status arg(void* state, const ArgRequest&);
Status softmax(void* state, const SoftmaxRequest&);
Status gather(void* state, const GatherRequest&);
Status scatterAdd(void* state, const ScatterAddRequest&);
Status rmsNorm(void* state, const RmsNormRequest&);
Status rmsNormBackward(void* state, const RmsNormBackwardRequest&);
Status rotary(void* state, const RotaryRequest&);
Status gatedUnit(void* state, const GatedUnitRequest&);
Status gatedUnitBackward(void* state, const GatedUnitBackwardRequest&);
Status attention(void* state, const AttentionRequest&);
Status decodeAttention(void* state, const DecodeAttentionRequest&);
Status attentionBackward(void* state, const AttentionBackwardRequest&);
Status adamW(void* state, const AdamWRequest&);
Status sumOfSquares(void* state, const SumOfSquaresRequest&);
Status sample(void* state, const SampleRequest&);
Status matMul(void* state, const MatMulRequest&);
Status pack(void* state, Precision, const Matrix&, PackedMatrix*& packed);
int64_t packedBytes(const PackedMatrix&);
void freePacked(PackedMatrix*);

}  // namespace groupgrad::engine::cpu
