// What JavaScript needs to run the operations of native/tensorflow: their registration, and plans and reports to and
// from the int32 tensors in which they travel.
#pragma once

#include <napi.h>

namespace groupgrad::binding {

// Of the package that the addon was built from.
extern const char* const kVersion;

// The interface TensorflowAddon of src/devices/load.ts.
Napi::Object tensorflowExports(Napi::Env env);

}  // namespace groupgrad::binding
