// Hardware operations that CUDA C++ does not express, one function each, in PTX. test/native/simt has the same
// functions for a CPU, so that the kernels can be tested without a GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#if !defined(__CUDACC__)
#include <simt_primitives.hpp>
#else

namespace groupgrad::cuda {

// 2^x within 2 ulp; exactly 0 below 2^-126.
__device__ __forceinline__ float exp2Fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// One rounding each: a compiler that fuses the operations of one loop and not of another would give the same row
// different bits.
__device__ __forceinline__ float multiply(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ float multiplyAdd(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ double multiply(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ double multiplyAdd(double a, double b, double c) { return __fma_rn(a, b, c); }

// The dynamic shared memory of the block.
__device__ __forceinline__ unsigned char* sharedMemory() {
  extern __shared__ __align__(128) unsigned char groupgradShared[];
  return groupgradShared;
}

// A shared variable of the block, identified by its tag. Not initialised.
template <class Tag, class T>
__device__ __forceinline__ T& blockShared() {
  __shared__ T value;
  return value;
}

__device__ __forceinline__ void spinPause() {
#if __CUDA_ARCH__ >= 700
  __nanosleep(20);
#endif
}

// A load with acquire semantics at device scope.
__device__ __forceinline__ unsigned loadAcquire(const unsigned* address) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}

__device__ __forceinline__ unsigned long long loadAcquire(const unsigned long long* address) {
  unsigned long long value;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
  return value;
}

// Two floats to two 16-bit values, rounded to nearest even; `low` in the lower half.
__device__ __forceinline__ uint32_t packBfloat16(float low, float high) {
#if __CUDA_ARCH__ >= 800
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
#else
  const auto round = [](float x) {
    const uint32_t bits = __float_as_uint(x);
    return x == x ? (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 : 0x7fffu;
  };
  return round(low) | (round(high) << 16);
#endif
}

__device__ __forceinline__ uint32_t packFloat16(float low, float high) {
  uint16_t l, h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(l) : "f"(low));
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(high));
  return uint32_t(l) | (uint32_t(h) << 16);
}

__device__ __forceinline__ float unpackFloat16(uint32_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(uint16_t(bits)));
  return value;
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

__device__ __forceinline__ uint32_t sharedAddress(const void* pointer) {
  return uint32_t(__cvta_generic_to_shared(pointer));
}

// The larger of two values each; of NaN and a number, the number.
__device__ __forceinline__ uint32_t maxBfloat16(uint32_t a, uint32_t b) {
  uint32_t larger;
  asm("max.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  return larger;
}
__device__ __forceinline__ uint32_t maxFloat16(uint32_t a, uint32_t b) {
  uint32_t larger;
  asm("max.f16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  return larger;
}

// A barrier in shared memory on which bulk loads complete.
__device__ __forceinline__ void barrierInit(uint64_t* barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(sharedAddress(barrier)) : "memory");
}

// Makes initialised barriers visible to bulk loads.
__device__ __forceinline__ void barrierInitFence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// The barrier's one arrival, and how many bytes it waits for.
__device__ __forceinline__ void barrierExpect(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sharedAddress(barrier)), "r"(bytes)
               : "memory");
}

// Waits for the barrier's first phase to complete.
__device__ __forceinline__ void barrierWait(uint64_t* barrier) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], 0;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n"
      "}" ::"r"(sharedAddress(barrier))
      : "memory");
}

// Copies between global and shared memory; addresses and sizes are multiples of 16.
__device__ __forceinline__ void bulkLoad(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   sharedAddress(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(sharedAddress(barrier))
               : "memory");
}
__device__ __forceinline__ void bulkStore(void* global, const void* shared, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(global)),
               "r"(sharedAddress(shared)), "r"(bytes)
               : "memory");
}
// Commits a group of this thread's stores; waits until all groups have read shared memory.
__device__ __forceinline__ void bulkCommit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
__device__ __forceinline__ void bulkStoresRead() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
// Orders this thread's ordinary accesses to shared memory before bulk copies that are issued after the next barrier.
__device__ __forceinline__ void bulkFence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ uint32_t clusterRank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ uint32_t clusterSize() {
  uint32_t size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}
// All threads of all blocks of the cluster arrive and wait, in turns.
__device__ __forceinline__ void clusterArrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
// The same without ordering of earlier writes.
__device__ __forceinline__ void clusterArriveRelaxed() { asm volatile("barrier.cluster.arrive.relaxed.aligned;"); }
__device__ __forceinline__ void clusterWait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

__device__ __forceinline__ uint32_t peerAddress(const void* shared, uint32_t rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(sharedAddress(shared)), "r"(rank));
  return address;
}
// Writes to the address of `shared` in the block of that rank.
__device__ __forceinline__ void storeToPeer(float* shared, uint32_t rank, float value) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(peerAddress(shared, rank)), "f"(value) : "memory");
}
__device__ __forceinline__ void storeToPeer(double* shared, uint32_t rank, double value) {
  asm volatile("st.shared::cluster.f64 [%0], %1;" ::"r"(peerAddress(shared, rank)), "d"(value) : "memory");
}

#endif

// An atomic addition with acquire and release semantics at device scope; returns the value before.
__device__ __forceinline__ unsigned addAcquireRelease(unsigned* address, unsigned value) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(address), "r"(value) : "memory");
  return before;
}

// Waits until the stream's earlier kernels have ended and their writes are visible: the start of a kernel that may be
// launched before (LaunchShape::overlaps).
__device__ __forceinline__ void awaitEarlierKernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace groupgrad::cuda

#endif
