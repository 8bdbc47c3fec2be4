// RAII wrappers for TensorFlow's tensors and errors within one kernel call.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "api.hpp"

namespace groupgrad::tensorflow {

// Ends a call early: it becomes a TensorFlow error, and then a JavaScript exception.
struct Failure {
  TF_Code code;
  std::string message;
};

class Status {
 public:
  Status() : status_(api.TF_NewStatus()) {}
  explicit Status(const Failure& failure) : Status() {
    api.TF_SetStatus(status_, failure.code, failure.message.c_str());
  }
  ~Status() { api.TF_DeleteStatus(status_); }
  Status(const Status&) = delete;
  Status& operator=(const Status&) = delete;

  TF_Status* get() const { return status_; }
  bool ok() const { return api.TF_GetCode(status_) == kOk; }
  std::string message() const { return api.TF_Message(status_); }
  void check() const {
    if (!ok()) throw Failure{api.TF_GetCode(status_), message()};
  }

 private:
  TF_Status* status_;
};

using Shape = std::vector<int64_t>;

class Tensor {
 public:
  explicit Tensor(TF_Tensor* tensor) : tensor_(tensor) {}
  ~Tensor() {
    if (tensor_) api.TF_DeleteTensor(tensor_);
  }
  Tensor(Tensor&& other) noexcept : tensor_(std::exchange(other.tensor_, nullptr)) {}
  Tensor& operator=(Tensor&&) = delete;

  const TF_Tensor* get() const { return tensor_; }
  void* data() const { return api.TF_TensorData(tensor_); }
  int64_t bytes() const { return int64_t(api.TF_TensorByteSize(tensor_)); }
  Shape shape() const {
    Shape sizes(size_t(api.TF_NumDims(tensor_)));
    for (size_t i = 0; i < sizes.size(); ++i) sizes[i] = api.TF_Dim(tensor_, int(i));
    return sizes;
  }

  // The memory of a tensor of exactly `count` values; null for an empty one where that means "absent".
  template <class T>
  T* values(const char* field, int64_t count, bool optional = false) const {
    const int64_t came = bytes() / int64_t(sizeof(T));
    if (optional && came == 0) return nullptr;
    if (came != count) {
      throw Failure{kInvalidArgument, std::string(field) + ": expected " + std::to_string(count) + " values, got " +
                                          std::to_string(came)};
    }
    return static_cast<T*>(data());
  }

 private:
  TF_Tensor* tensor_;
};

inline Tensor input(TF_OpKernelContext* context, int index) {
  const Status status;
  TF_Tensor* tensor = nullptr;
  api.TF_GetInput(context, index, &tensor, status.get());
  status.check();
  return Tensor(tensor);
}

inline size_t bytesOf(const Shape& shape, size_t each) {
  for (const int64_t size : shape) each *= size_t(size);
  return each;
}

// The context holds on to the tensor.
template <class T>
T* allocateOutput(TF_OpKernelContext* context, int index, TF_DataType type, const Shape& shape) {
  const Status status;
  const Tensor tensor(api.TF_AllocateOutput(context, index, type, shape.data(), int(shape.size()),
                                            bytesOf(shape, sizeof(T)), status.get()));
  status.check();
  return static_cast<T*>(tensor.data());
}

inline void setOutput(TF_OpKernelContext* context, int index, const Tensor& tensor) {
  const Status status;
  api.TF_SetOutput(context, index, tensor.get(), status.get());
  status.check();
}

// Scratch memory of the kernel's device, for as long as the tensor lives.
inline Tensor allocateScratch(TF_OpKernelContext* context, int64_t floats) {
  const Status status;
  TF_AllocatorAttributes attributes{offsetof(TF_AllocatorAttributes, on_host) + 1, 0};
  Tensor tensor(api.TF_AllocateTemp(context, kFloat, &floats, 1, &attributes, status.get()));
  status.check();
  return tensor;
}

}  // namespace groupgrad::tensorflow
