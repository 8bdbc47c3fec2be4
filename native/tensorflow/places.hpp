// Where a kernel runs. A place provides the device and its state, the scope of a call, and the gradient's memory;
// the kernels are the same for every place. The other place is in gpu.hpp.
#pragma once

#include <algorithm>
#include <cfenv>
#include <memory>
#include <vector>

#include "../cpu/device.hpp"
#include "buffers.hpp"
#include "tensors.hpp"

namespace groupgrad::tensorflow {

// TensorFlow's threads flush denormal numbers to zero. groupgrad's kernels must give the same results as elsewhere,
// and the threads that a call starts inherit its settings.
class FloatingPointScope {
 public:
  FloatingPointScope() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~FloatingPointScope() { std::fesetenv(&before_); }
  FloatingPointScope(const FloatingPointScope&) = delete;
  FloatingPointScope& operator=(const FloatingPointScope&) = delete;

 private:
  std::fenv_t before_;
};

class CpuPlace {
 public:
  static constexpr const char* kType = "CPU";
  static constexpr bool kOnHost = true;

  const Device& device() const { return device_; }

  // The scope of a call.
  class Scope : FloatingPointScope {
   public:
    explicit Scope(CpuPlace&) {}
  };

  // Memory that the device reads, with values from the host; and the other way.
  struct OnDevice {
    const float* data;
  };
  OnDevice toDevice(TF_OpKernelContext*, const std::vector<float>& values) const { return {values.data()}; }
  void toHost(std::vector<float>& to, const float* from) const { std::copy_n(from, to.size(), to.data()); }

  // From this size on malloc gets fresh pages from the system each time.
  static constexpr size_t kPooledBytes = size_t(1) << 20;

  void* allocateGradient(TF_OpKernelContext* context, int index, const Shape& shape) const {
    const size_t bytes = bytesOf(shape, sizeof(float));
    if (bytes < kPooledBytes) return allocateOutput<float>(context, index, kFloat, shape);
    const Buffer buffer = acquireBuffer(bytes);
    if (!buffer.data) {
      throw Failure{kResourceExhausted, "not enough memory for a gradient of " + std::to_string(bytes) + " bytes"};
    }
    const auto release = [](void* data, size_t, void* capacity) {
      releaseBuffer({data, reinterpret_cast<size_t>(capacity)});
    };
    setOutput(context, index,
              Tensor(api.TF_NewTensor(kFloat, shape.data(), int(shape.size()), buffer.data, bytes, release,
                                      reinterpret_cast<void*>(buffer.bytes))));
    return buffer.data;
  }

 private:
  std::unique_ptr<cpu::State, cpu::StateDeleter> state_ = cpu::createState();
  Device device_ = cpu::device(*state_);
};

}  // namespace groupgrad::tensorflow
