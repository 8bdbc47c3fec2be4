// The functions of native/cuda/primitives.cuh for fibers. Bulk copies complete as late as possible, in a varying
// order, so that a kernel that reads too early is detected.
#pragma once

#include <cuda_runtime.h>

namespace simt {

uint32_t clusterRank();
uint32_t clusterSize();
void clusterArrive();
void clusterWait();
void* inPeer(void* shared, uint32_t rank);
void barrierInit(uint64_t* barrier);
void barrierExpect(uint64_t* barrier, uint32_t bytes);
void barrierWait(uint64_t* barrier);
void bulkLoad(void* shared, const void* global, uint32_t bytes, uint64_t* barrier);
void bulkStore(void* global, const void* shared, uint32_t bytes);
void bulkStoresRead();
void awaitEarlierKernels();

}  // namespace simt

namespace groupgrad::cuda {

inline float exp2Fast(float x) { return x < -126 ? 0.0f : std::exp2(x); }
inline float multiply(float a, float b) {
  volatile float product = a * b;
  return product;
}
inline float multiplyAdd(float a, float b, float c) { return std::fma(a, b, c); }
inline double multiply(double a, double b) {
  volatile double product = a * b;
  return product;
}
inline double multiplyAdd(double a, double b, double c) { return std::fma(a, b, c); }
inline unsigned char* sharedMemory() { return simt::dynamicSharedMemory(); }
template <class Tag, class T>
T& blockShared() {
  static const char tag = 0;
  return *static_cast<T*>(simt::blockSharedMemory(&tag, sizeof(T)));
}
inline void spinPause() { simt::yieldThread(); }
template <class T>
T loadAcquire(const T* address) {
  return *address;
}

inline uint32_t packBfloat16(float low, float high) {
  const auto round = [](float x) -> uint32_t {
    const uint32_t bits = __float_as_uint(x);
    return x == x ? (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 : 0x7fffu;
  };
  return round(low) | round(high) << 16;
}
inline uint32_t packFloat16(float low, float high) {
  const auto round = [](float x) -> uint32_t { return __builtin_bit_cast(uint16_t, _Float16(x)); };
  return round(low) | round(high) << 16;
}
inline float unpackFloat16(uint32_t bits) { return float(__builtin_bit_cast(_Float16, uint16_t(bits))); }

template <class Unpack>
uint32_t maxHalves(uint32_t a, uint32_t b, const Unpack& unpack) {
  const auto larger = [&](uint32_t x, uint32_t y) {
    const float u = unpack(x), v = unpack(y);
    return v != v || u > v ? x : y;
  };
  return larger(a & 0xffffu, b & 0xffffu) | larger(a >> 16, b >> 16) << 16;
}
inline uint32_t maxBfloat16(uint32_t a, uint32_t b) {
  return maxHalves(a, b, [](uint32_t bits) { return __uint_as_float(bits << 16); });
}
inline uint32_t maxFloat16(uint32_t a, uint32_t b) { return maxHalves(a, b, unpackFloat16); }

inline void barrierInit(uint64_t* barrier) { simt::barrierInit(barrier); }
inline void barrierInitFence() {}
inline void barrierExpect(uint64_t* barrier, uint32_t bytes) { simt::barrierExpect(barrier, bytes); }
inline void barrierWait(uint64_t* barrier) { simt::barrierWait(barrier); }
inline void bulkLoad(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  simt::bulkLoad(shared, global, bytes, barrier);
}
inline void bulkStore(void* global, const void* shared, uint32_t bytes) { simt::bulkStore(global, shared, bytes); }
inline void bulkCommit() {}
inline void bulkStoresRead() { simt::bulkStoresRead(); }
inline void bulkFence() {}
inline uint32_t clusterRank() { return simt::clusterRank(); }
inline uint32_t clusterSize() { return simt::clusterSize(); }
inline void clusterArriveRelaxed() { simt::clusterArrive(); }
inline void clusterArrive() { simt::clusterArrive(); }
inline void clusterWait() { simt::clusterWait(); }
template <class T>
void storeToPeer(T* shared, uint32_t rank, T value) {
  *static_cast<T*>(simt::inPeer(shared, rank)) = value;
}
inline void awaitEarlierKernels() { simt::awaitEarlierKernels(); }
inline unsigned addAcquireRelease(unsigned* address, unsigned value) { return atomicAdd(address, value); }

}  // namespace groupgrad::cuda
