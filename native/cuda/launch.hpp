// One way to launch a kernel, for a CUDA compiler and for the emulator of test/native/simt alike.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

namespace groupgrad::cuda {

struct LaunchShape {
  int64_t blocks = 1;
  int threads = 1;
  std::size_t sharedMemory = 0;
  bool cooperative = false;
  int cluster = 1;
};

template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const LaunchShape& shape, cudaStream_t stream,
                   Arguments&&... arguments) {
  if (shape.blocks > 0x7fffffff) return cudaErrorInvalidConfiguration;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(shape.blocks));
  config.blockDim = dim3(unsigned(shape.threads));
  config.dynamicSmemBytes = shape.sharedMemory;
  config.stream = stream;
  cudaLaunchAttribute attributes[2]{};
  config.attrs = attributes;
  if (shape.cooperative) {
    attributes[config.numAttrs].id = cudaLaunchAttributeCooperative;
    attributes[config.numAttrs++].val.cooperative = 1;
  }
  if (shape.cluster > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs].val.clusterDim.x = unsigned(shape.cluster);
    attributes[config.numAttrs].val.clusterDim.y = attributes[config.numAttrs].val.clusterDim.z = 1;
    ++config.numAttrs;
  }
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...);
  const cudaError_t last = cudaGetLastError();  // leaves no error behind for a later call to find
  return error != cudaSuccess ? error : last;
}

}  // namespace groupgrad::cuda
