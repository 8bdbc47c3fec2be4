// The primitives of a transformer and the optimiser as JavaScript functions (EngineAddon in src/devices/load.ts).
#include <algorithm>
#include <new>
#include <vector>

#include "call.hpp"

namespace groupgrad::binding {

namespace {

using namespace engine;

void rmsNorm(const Engine& e, Call& call) {
  RmsNormRequest r{};
  r.rows = call.size("rows");
  r.n = call.positive("n");
  r.epsilon = float(call.number("epsilon"));
  r.offset = float(call.number("offset"));
  const int64_t size = call.product("x", {r.rows, r.n});
  r.x = call.values<const float>(1, "x", size);
  r.weight = call.values<const float>(2, "weight", r.n);
  r.y = call.values<float>(3, "y", size);
  r.scale = call.values<float>(4, "scale", r.rows);
  check(call.env(), e.operations->rmsNorm(e.state, r));
}

void rmsNormBackward(const Engine& e, Call& call) {
  RmsNormBackwardRequest r{};
  r.rows = call.size("rows");
  r.n = call.positive("n");
  r.offset = float(call.number("offset"));
  const int64_t size = call.product("x", {r.rows, r.n});
  r.dy = call.values<const float>(1, "dy", size);
  r.x = call.values<const float>(2, "x", size);
  r.weight = call.values<const float>(3, "weight", r.n);
  r.scale = call.values<const float>(4, "scale", r.rows);
  r.dx = call.values<float>(5, "dx", size);
  if (!call.isNull(6)) r.dWeight = call.values<float>(6, "dWeight", r.n);
  check(call.env(), e.operations->rmsNormBackward(e.state, r));
}

void rotary(const Engine& e, Call& call) {
  RotaryRequest r{};
  r.rows = call.size("rows");
  r.heads = call.size("heads");
  r.size = call.positive("size of a head");
  r.positions = call.positive("positions");
  r.width = call.integer("width", 0, r.size);
  if (r.width % 2 != 0) call.fail<Napi::RangeError>("width", "an even number", std::to_string(r.width));
  r.inverse = call.integer("inverse", 0, 1) != 0;
  const int64_t size = call.product("x", {r.rows, r.heads, r.size}), table = call.product("cos", {r.positions, r.size});
  r.x = call.values<const float>(1, "x", size);
  r.cos = call.values<const float>(2, "cos", table);
  r.sin = call.values<const float>(3, "sin", table);
  r.y = call.values<float>(4, "y", size);
  if (size > 0) check(call.env(), e.operations->rotary(e.state, r));
}

void gatedUnit(const Engine& e, Call& call) {
  GatedUnitRequest r{};
  r.gelu = call.integer("gelu", 0, 1) != 0;
  r.size = call.size("size");
  r.gate = call.values<const float>(1, "gate", r.size);
  r.up = call.values<const float>(2, "up", r.size);
  r.y = call.values<float>(3, "y", r.size);
  check(call.env(), e.operations->gatedUnit(e.state, r));
}

void gatedUnitBackward(const Engine& e, Call& call) {
  GatedUnitBackwardRequest r{};
  r.gelu = call.integer("gelu", 0, 1) != 0;
  r.size = call.size("size");
  r.dy = call.values<const float>(1, "dy", r.size);
  r.gate = call.values<const float>(2, "gate", r.size);
  r.up = call.values<const float>(3, "up", r.size);
  r.dGate = call.values<float>(4, "dGate", r.size);
  r.dUp = call.values<float>(5, "dUp", r.size);
  check(call.env(), e.operations->gatedUnitBackward(e.state, r));
}

AttentionShape readAttentionShape(Call& call) {
  AttentionShape s{};
  s.heads = call.positive("heads");
  s.keyValueHeads = call.positive("heads of keys");
  if (s.heads % s.keyValueHeads != 0 || s.heads / s.keyValueHeads > kMaxSharingHeads) {
    call.fail<Napi::RangeError>(
        "heads", "a multiple of the heads of keys, at most " + std::to_string(kMaxSharingHeads) + " times as many",
        std::to_string(s.heads) + " for " + std::to_string(s.keyValueHeads));
  }
  s.headSize = call.positive("size of a head");
  s.scale = float(call.number("scale"));
  s.softCap = float(call.number("softCap"));
  s.window = call.integer("window", 0, INT32_MAX);
  return s;
}

// Sizes of arrays of attention, in values.
struct AttentionSizes {
  int64_t query, key, statistics;
};

template <class Request>
AttentionSizes readAttention(Call& call, Request& r) {
  r.shape = readAttentionShape(call);
  r.sequences = call.size("sequences");
  r.length = call.integer("length", 0, INT32_MAX);
  const AttentionShape& s = r.shape;
  return {call.product("query", {r.sequences, r.length, s.heads, s.headSize}),
          call.product("key", {r.sequences, r.length, s.keyValueHeads, s.headSize}),
          call.product("logSumExp", {r.sequences, r.length, s.heads})};
}

// `count` positions within [low, high]. Copied, so that they cannot change after the check: outputs may overlap
// them.
std::vector<int32_t> readPositions(Call& call, size_t index, const std::string& field, int64_t count, int64_t low,
                                   int64_t high) {
  const int32_t* positions = call.values<const int32_t>(index, field.c_str(), count);
  for (int64_t i = 0; i < count; ++i) {
    if (positions[i] >= low && positions[i] <= high) continue;
    call.fail<Napi::RangeError>((field + "[" + std::to_string(i) + "]").c_str(),
                                "an integer from " + std::to_string(low) + " to " + std::to_string(high),
                                std::to_string(positions[i]));
  }
  return {positions, positions + count};
}

void attention(const Engine& e, Call& call) {
  AttentionRequest r{};
  const AttentionSizes sizes = readAttention(call, r);
  r.query = call.values<const float>(1, "query", sizes.query);
  r.key = call.values<const float>(2, "key", sizes.key);
  r.value = call.values<const float>(3, "value", sizes.key);
  const std::vector<int32_t> starts = readPositions(call, 4, "starts", r.sequences, 0, r.length);
  r.starts = starts.data();
  r.y = call.values<float>(5, "y", sizes.query);
  r.logSumExp = call.values<float>(6, "logSumExp", sizes.statistics);
  if (sizes.query > 0) check(call.env(), e.operations->attention(e.state, r));
}

void attentionBackward(const Engine& e, Call& call) {
  AttentionBackwardRequest r{};
  const AttentionSizes sizes = readAttention(call, r);
  r.dy = call.values<const float>(1, "dy", sizes.query);
  r.query = call.values<const float>(2, "query", sizes.query);
  r.key = call.values<const float>(3, "key", sizes.key);
  r.value = call.values<const float>(4, "value", sizes.key);
  r.mixed = call.values<const float>(5, "mixed", sizes.query);
  r.logSumExp = call.values<const float>(6, "logSumExp", sizes.statistics);
  const std::vector<int32_t> starts = readPositions(call, 7, "starts", r.sequences, 0, r.length);
  r.starts = starts.data();
  r.dQuery = call.values<float>(8, "dQuery", sizes.query);
  r.dKey = call.values<float>(9, "dKey", sizes.key);
  r.dValue = call.values<float>(10, "dValue", sizes.key);
  if (sizes.query > 0) check(call.env(), e.operations->attentionBackward(e.state, r));
}

void decodeAttention(const Engine& e, Call& call) {
  DecodeAttentionRequest r{};
  r.shape = readAttentionShape(call);
  r.rows = call.size("rows");
  r.columns = call.positive("columns of a block");
  const AttentionShape& s = r.shape;
  const int64_t queries = call.product("query", {r.rows, s.heads, s.headSize});
  const int64_t keys = call.product("key", {r.rows, s.keyValueHeads, s.headSize});
  const int64_t block = call.product("a block", {keys, r.columns});
  r.query = call.values<const float>(1, "query", queries);
  r.key = call.values<const float>(2, "key", keys);
  r.value = call.values<const float>(3, "value", keys);
  r.y = call.values<float>(5, "y", queries);
  std::vector<float*> keyBlocks, valueBlocks;
  for (size_t i = 6; i + 1 < call.length(); i += 2) {
    keyBlocks.push_back(call.values<float>(i, "a block of keys", block));
    valueBlocks.push_back(call.values<float>(i + 1, "a block of values", block));
  }
  r.keys = keyBlocks;
  r.values = valueBlocks;
  const int64_t capacity = call.product("the blocks", {int64_t(keyBlocks.size()), r.columns});
  const std::vector<int32_t> lengths = readPositions(call, 4, "lengths", r.rows, -1, capacity - 1);
  r.lengths = lengths.data();
  if (r.rows > 0) check(call.env(), e.operations->decodeAttention(e.state, r));
}

void adamW(const Engine& e, Call& call) {
  AdamWRequest r{};
  r.size = call.size("size");
  for (double* setting : {&r.scale, &r.beta1, &r.beta2, &r.epsilon, &r.rate, &r.decay, &r.correction}) {
    *setting = call.number("settings");
  }
  r.variable = call.values<const float>(1, "variable", r.size);
  r.mean = call.values<const float>(2, "mean", r.size);
  r.square = call.values<const float>(3, "square", r.size);
  r.gradient = call.values<const float>(4, "gradient", r.size);
  r.newVariable = call.values<float>(5, "newVariable", r.size);
  r.newMean = call.values<float>(6, "newMean", r.size);
  r.newSquare = call.values<float>(7, "newSquare", r.size);
  check(call.env(), e.operations->adamW(e.state, r));
}

void sumOfSquares(const Engine& e, Call& call) {
  std::vector<std::span<const float>> x;
  for (size_t i = 2; i < call.length(); ++i) {
    const int64_t size = call.size("size");
    x.emplace_back(call.values<const float>(i, "x", size), size_t(size));
  }
  check(call.env(), e.operations->sumOfSquares(e.state, {x, call.values<double>(1, "y", 1)}));
}

// Returns the ids that a cut left, an array for each row; none without a cut.
Napi::Value sample(const Engine& e, Call& call) {
  SampleRequest r{};
  r.rows = call.size("rows");
  r.vocab = call.integer("vocab", 1, INT32_MAX);
  r.allowed = call.integer("allowed", 1, r.vocab);
  r.block = call.integer("block", 1, r.vocab);
  if (r.vocab % r.block != 0) call.fail<Napi::RangeError>("block", "a divisor of vocab", std::to_string(r.block));
  r.temperature = call.number("temperature");
  if (!(r.temperature > 0)) {
    call.fail<Napi::RangeError>("temperature", "a number above 0", std::to_string(r.temperature));
  }
  r.cuts = call.integer("cuts", 0, 1) != 0;
  r.cut.topK = call.integer("topK", 0, INT32_MAX);
  r.cut.topP = call.number("topP");
  r.cut.minP = call.number("minP");
  r.masked = float(call.number("masked"));
  r.logits = call.values<const float>(1, "logits", call.product("logits", {r.rows, r.vocab}));
  if (r.cuts || !call.isNull(2)) r.uniforms = call.values<const double>(2, "uniforms", r.rows);
  r.wanted = call.values<const uint8_t>(3, "wanted", r.rows);
  r.tokens = call.values<int32_t>(4, "tokens", r.rows);
  r.logProbs = call.values<float>(5, "logProbs", r.rows);
  std::vector<std::vector<int32_t>> kept;
  try {
    if (r.cuts) kept.resize(size_t(r.rows));
  } catch (const std::bad_alloc&) {
    throw Napi::RangeError::New(call.env(), "rows: expected fewer, as there is not enough memory");
  }
  r.kept = kept;
  check(call.env(), e.operations->sample(e.state, r));
  const Napi::Array result = Napi::Array::New(call.env(), kept.size());
  for (size_t row = 0; row < kept.size(); ++row) {
    Napi::Int32Array ids = Napi::Int32Array::New(call.env(), kept[row].size());
    std::copy(kept[row].begin(), kept[row].end(), ids.Data());
    result.Set(uint32_t(row), ids);
  }
  return result;
}

}  // namespace

void addTransformerOperations(Napi::Object& exports, const Engine& e) {
  addOperation(exports, "rmsNorm", e, rmsNorm);
  addOperation(exports, "rmsNormBackward", e, rmsNormBackward);
  addOperation(exports, "rotary", e, rotary);
  addOperation(exports, "gatedUnit", e, gatedUnit);
  addOperation(exports, "gatedUnitBackward", e, gatedUnitBackward);
  addOperation(exports, "attention", e, attention);
  addOperation(exports, "attentionBackward", e, attentionBackward);
  addOperation(exports, "decodeAttention", e, decodeAttention);
  addOperation(exports, "adamW", e, adamW);
  addOperation(exports, "sumOfSquares", e, sumOfSquares);
  setMethod(exports, "sample", [e](const Napi::CallbackInfo& info) {
    Call call(info);
    return sample(e, call);
  });
}

}  // namespace groupgrad::binding
