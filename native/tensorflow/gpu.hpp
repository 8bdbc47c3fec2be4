// The other place where a kernel runs (places.hpp): a GPU, on TensorFlow's own device memory. TensorFlow uses the
// primary CUDA context, so its pointers are valid here; but its streams are not accessible through the C API, and
// are not ordered with the default stream. So a call waits for everything that TensorFlow has launched, launches on
// groupgrad's own stream, and waits for that: correct, at the cost of draining the pipeline once per call.
#pragma once

#if GROUPGRAD_CUDA

#include <memory>
#include <vector>

#include "../cuda/device.hpp"
#include "tensors.hpp"

namespace groupgrad::tensorflow {

class GpuPlace {
 public:
  static constexpr const char* kType = "GPU";
  static constexpr bool kOnHost = false;

  GpuPlace();

  const Device& device() const { return device_; }
  // Throws a Failure if the GPU reports an error, including one of an earlier operation.
  class Scope {
   public:
    explicit Scope(GpuPlace&);
  };

  struct OnDevice {
    Tensor memory;
    const float* data;
  };
  OnDevice toDevice(TF_OpKernelContext*, const std::vector<float>& values);
  void toHost(std::vector<float>& to, const float* from);

  // TensorFlow's allocator does not return memory to the GPU.
  void* allocateGradient(TF_OpKernelContext* context, int index, const Shape& shape) const {
    return allocateOutput<float>(context, index, kFloat, shape);
  }

 private:
  cuda::StatePointer state_;
  Device device_;
};

}  // namespace groupgrad::tensorflow

#endif
