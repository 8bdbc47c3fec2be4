// One way to launch a kernel, for a CUDA compiler and for the emulator of test/native/simt alike.
#pragma once

#include <cuda_runtime.h>

#include <compare>
#include <cstdint>
#include <map>
#include <mutex>
#include <utility>

namespace groupgrad::cuda {

struct LaunchShape {
  int64_t blocks = 1;
  int threads = 1;
  std::size_t sharedMemory = 0;
  bool cooperative = false;
  bool overlaps = false;  // may start before the stream's previous kernel has ended: awaitEarlierKernels() is its start
  int cluster = 1;
};

// A launch in the runtime's terms.
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
    if (shape.overlaps) {
      cudaLaunchAttribute& attribute = attributes_[config_.numAttrs++];
      attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
      attribute.val.programmaticStreamSerializationAllowed = 1;
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
  cudaLaunchAttribute attributes_[3]{};
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

// A kernel's attributes are queried or set once per device, because each such call takes as long as a launch. The
// caller has made the device current.
struct Question {
  enum What { sharedMemory, wideClusters, clusters, blocks } what;
  const void* kernel;
  int device;
  int cluster = 1;
  std::size_t bytes = 0;  // of shared memory
  std::strong_ordering operator<=>(const Question&) const = default;
};

// `ask(answer)` returns a cudaError_t; a failure is not cached. Thread-safe.
template <class Ask>
cudaError_t askOnce(const Question& question, int& answer, const Ask& ask) {
  // Never destroyed: threads may launch while the process ends.
  static std::mutex& mutex = *new std::mutex();
  static auto& answers = *new std::map<Question, int>();
  const std::lock_guard lock(mutex);
  if (const auto known = answers.find(question); known != answers.end()) {
    answer = known->second;
    return cudaSuccess;
  }
  const cudaError_t error = ask(answer);
  if (error == cudaSuccess) answers.emplace(question, answer);
  return error;
}

// Raises a kernel's limit of shared memory per block, which should be the device's maximum: the limit applies to
// the process, not the call, and a lower one for this call could affect another thread's launch.
template <class... Parameters>
cudaError_t allowSharedMemory(void (*kernel)(Parameters...), int device, int bytes) {
  int allowed = 0;
  const Question question{.what = Question::sharedMemory,
                          .kernel = reinterpret_cast<const void*>(kernel),
                          .device = device,
                          .bytes = std::size_t(bytes)};
  return askOnce(question, allowed, [&](int&) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return error;
    return cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100);  // percent
  });
}

// Allows a kernel clusters larger than the portable size.
template <class... Parameters>
cudaError_t allowWideClusters(void (*kernel)(Parameters...), int device) {
  int allowed = 0;
  const Question question{
      .what = Question::wideClusters, .kernel = reinterpret_cast<const void*>(kernel), .device = device};
  return askOnce(question, allowed,
                 [&](int&) { return cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1); });
}

// Whether the device can hold such a cluster at all: a GPU partition may have too few adjacent multiprocessors.
template <class... Parameters>
cudaError_t clusterFits(void (*kernel)(Parameters...), int device, const LaunchShape& shape, bool& fits) {
  fits = true;
  if (shape.cluster == 1) return cudaSuccess;
  int clusters = 0;
  const Question question{.what = Question::clusters,
                          .kernel = reinterpret_cast<const void*>(kernel),
                          .device = device,
                          .cluster = shape.cluster,
                          .bytes = shape.sharedMemory};
  const cudaError_t error = askOnce(question, clusters, [&](int& answer) {
    const Launch launch(shape, nullptr);
    const cudaError_t asked = cudaOccupancyMaxActiveClusters(&answer, kernel, launch.config());
    if (asked != cudaErrorInvalidClusterSize) return asked;
    cudaGetLastError();
    answer = 0;
    return cudaSuccess;
  });
  fits = clusters > 0;
  return error;
}

// How many blocks of a kernel without dynamic shared memory a multiprocessor holds at once.
template <class... Parameters>
cudaError_t blocksAtOnce(void (*kernel)(Parameters...), int device, int threads, int& blocks) {
  const Question question{.what = Question::blocks, .kernel = reinterpret_cast<const void*>(kernel), .device = device};
  return askOnce(question, blocks, [&](int& answer) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(&answer, kernel, threads, 0);
  });
}

}  // namespace groupgrad::cuda
