// JavaScript's interface to the operations of native/tensorflow: their registration, and the conversion of plans
// and reports to and from int32 tensors.
#pragma once

#include <napi.h>

namespace groupgrad::binding {

// Of the package that the addon was built from.
extern const char* const kVersion;

// The interface TensorflowAddon of src/devices/load.ts.
Napi::Object tensorflowExports(Napi::Env env);

}  // namespace groupgrad::binding
