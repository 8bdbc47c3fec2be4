// The CUDA operations: enqueued on a stream, they neither allocate nor synchronise, and can be captured in a graph.
// Every pointer is to device memory, including results; a workspace holds what passes between their kernels.
#pragma once

#include <cuda_runtime.h>

#include "../core/device.hpp"

namespace groupgrad::cuda {

// Rewards on the device, in addition to or instead of fields of an AdvantageRequest.
struct DeviceRewards {
  AdvantageRequest request;
  const float* rewards32 = nullptr;  // instead of request.rewards
  int64_t rewards = 0;               // how many
  int64_t groupSize = 0;             // instead of request.offsets; 0: ragged groups
  const double* anchor = nullptr;    // instead of request.anchor
};

// A workspace is zeroed once, before its first use; every operation leaves it ready for the next one of any shape.
std::size_t advantagesWorkspace();
std::size_t policyWorkspace(const PolicyRequest&);
std::size_t logitsWorkspace(const LogitsRequest&);
std::size_t logitsBackwardWorkspace();

struct Stream {
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;
};

// The device properties that operations need; read once (cudaGetDeviceProperties is slow).
struct DeviceTraits {
  int device = 0;
  int multiprocessors = 1;
  int sharedMemoryPerBlock = 48 * 1024;  // the most that a block may opt in to
  bool clusters = false;                 // whether blocks can be launched in clusters
  bool overlaps = false;                 // whether a kernel can start before the stream's previous one has ended
};
cudaError_t readTraits(int device, DeviceTraits&);
// The architecture that the kernels over logits were compiled for, as 90 for 9.0: a newer device may run older code.
cudaError_t compiledArchitecture(int& architecture);

// `rewards` may be null; otherwise the loss uses its advantages. The policy loss computes them in its own launch.
cudaError_t advantages(const Stream&, const DeviceRewards&, AdvantageMetrics* metrics);
cudaError_t policyLoss(const DeviceTraits&, const Stream&, const PolicyRequest&, const DeviceRewards* rewards,
                       LossMetrics* metrics, AdvantageMetrics* advantageMetrics);
cudaError_t logitsLoss(const DeviceTraits&, const Stream&, const LogitsRequest&, const DeviceRewards* rewards,
                       LossMetrics* metrics, AdvantageMetrics* advantageMetrics);
cudaError_t logitsBackward(const DeviceTraits&, const Stream&, const LogitsBackwardRequest&, double* nonFinite);

}  // namespace groupgrad::cuda
