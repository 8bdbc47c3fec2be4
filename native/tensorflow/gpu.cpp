#include "gpu.hpp"

#if GROUPGRAD_CUDA

namespace groupgrad::tensorflow {

namespace {

void check(const groupgrad::Status& status) {
  if (status.code == StatusCode::ok) return;
  throw Failure{status.code == StatusCode::outOfMemory ? kResourceExhausted : kInternal, status.message};
}

}  // namespace

GpuPlace::GpuPlace() {
  check(cuda::createState(state_));
  device_ = cuda::device(*state_);
}

GpuPlace::Scope::Scope(GpuPlace&) { check(cuda::synchronizeDevice()); }

GpuPlace::OnDevice GpuPlace::toDevice(TF_OpKernelContext* context, const std::vector<float>& values) {
  Tensor memory = allocateScratch(context, int64_t(values.size()));
  auto* data = static_cast<float*>(memory.data());
  check(cuda::copyToDevice(*state_, data, values.data(), values.size() * sizeof(float)));
  return {std::move(memory), data};
}

void GpuPlace::toHost(std::vector<float>& to, const float* from) {
  check(cuda::copyToHost(*state_, to.data(), from, to.size() * sizeof(float)));
}

}  // namespace groupgrad::tensorflow

#endif
