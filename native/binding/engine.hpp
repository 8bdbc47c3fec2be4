// The engine's operations as JavaScript functions: src/devices/load.ts mirrors them (EngineAddon).
#pragma once

#include <napi.h>

#include "../engine/cpu/engine.hpp"

namespace groupgrad::binding {

// The state must outlive the environment's functions.
Napi::Object engineExports(Napi::Env env, engine::cpu::State& state);

}  // namespace groupgrad::binding
