// The CUDA device's exports: `built` and, if true, `probe` and the functions of src/devices/load.ts (interface
// CudaAddon). Nothing touches a GPU before a function is called.
#pragma once

#include <napi.h>

#include "../core/device.hpp"

namespace groupgrad::binding {

// `cpu` computes advantages of rewards on the host.
Napi::Object cudaExports(Napi::Env env, const Device& cpu);

}  // namespace groupgrad::binding
