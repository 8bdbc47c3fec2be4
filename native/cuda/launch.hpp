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

// A launch in the runtime's words.
class Launch {
 public:
  Launch(const LaunchShape& shape, cudaStream_t stream) {
    config_.gridDim = dim3(unsigned(shape.blocks));
    config_.blockDim = dim3(unsigned(shape.threads));
    config_.dynamicSmemBytes = shape.sharedMemory;
    config_.stream = stream;
    config_.attrs = attributes_;
    if (shape.cooperative) {
      cudaLaunchAttribute& attribute = attributes_[config_.numAttrs++];
      attribute.id = cudaLaunchAttributeCooperative;
      attribute.val.cooperative = 1;
    }
    if (shape.cluster > 1) {
      cudaLaunchAttribute& attribute = attributes_[config_.numAttrs++];
      attribute.id = cudaLaunchAttributeClusterDimension;
      attribute.val.clusterDim.x = unsigned(shape.cluster);
      attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    }
  }
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  const cudaLaunchConfig_t* config() const { return &config_; }

 private:
  cudaLaunchConfig_t config_{};
  cudaLaunchAttribute attributes_[2]{};
};

template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const LaunchShape& shape, cudaStream_t stream,
                   Arguments&&... arguments) {
  if (shape.blocks > 0x7fffffff) return cudaErrorInvalidConfiguration;
  const Launch launch(shape, stream);
  const cudaError_t error =
      cudaLaunchKernelEx(launch.config(), kernel, Parameters(std::forward<Arguments>(arguments))...);
  const cudaError_t last = cudaGetLastError();  // leaves no error behind for a later call to find
  return error != cudaSuccess ? error : last;
}

// Whether the device can hold one such cluster at all: a part of a GPU may have too few multiprocessors side by side.
template <class... Parameters>
cudaError_t clusterFits(void (*kernel)(Parameters...), const LaunchShape& shape, bool& fits) {
  fits = true;
  if (shape.cluster == 1) return cudaSuccess;
  const Launch launch(shape, nullptr);
  int clusters = 0;
  const cudaError_t error = cudaOccupancyMaxActiveClusters(&clusters, kernel, launch.config());
  fits = clusters > 0;
  return error;
}

}  // namespace groupgrad::cuda
