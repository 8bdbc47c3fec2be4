#include "engine.hpp"

#include <vector>

#include "call.hpp"

namespace groupgrad::binding {

namespace {

using namespace engine;

constexpr napi_type_tag kPackedTag = {0x6772'6f75'7067'7261, 0x642d'7061'636b'6564};

struct Packed {
  PackedMatrix* matrix;
  const Operations* operations;
  int64_t bytes;

  void free() {
    if (matrix) operations->freePacked(matrix);
    matrix = nullptr;
  }
};

// The range of a box's elements relative to the first one: [lowest, highest], both 0 for an empty box.
struct Reach {
  int64_t lowest = 0, highest = 0;
};
Reach reach(const Call& call, const char* field, int rank, const int64_t* shape, const int64_t* stride) {
  Reach result;
  for (int axis = 0; axis < rank; ++axis) {
    if (shape[axis] == 0) return {};
  }
  for (int axis = 0; axis < rank; ++axis) {
    const int64_t far = call.product(field, {shape[axis] - 1, stride[axis]});
    int64_t& end = far < 0 ? result.lowest : result.highest;
    if (__builtin_add_overflow(end, far, &end)) call.fail<Napi::RangeError>(field, "an offset below 2^63", "more");
  }
  return result;
}

int64_t sizeOf(const Call& call, const char* field, int rank, const int64_t* shape) {
  int64_t size = 1;
  for (int axis = 0; axis < rank; ++axis) size = call.product(field, {size, shape[axis]});
  return size;
}

void readAxes(Call& call, const char* field, int rank, int64_t* axes, bool strides) {
  for (int axis = 0; axis < rank; ++axis) axes[axis] = strides ? call.stride(field) : call.size(field);
}

void unary(const Engine& e, Call& call) {
  UnaryRequest r{};
  r.op = Unary(call.integer("operation", 0, int64_t(std::size(kUnaryNames)) - 1));
  r.size = call.size("size");
  r.alpha = float(call.number("alpha"));
  r.x = call.values<const float>(1, "x", r.size);
  r.y = call.values<float>(2, "y", r.size);
  check(call.env(), e.operations->unary(e.state, r));
}

void binary(const Engine& e, Call& call) {
  BinaryRequest r{};
  r.op = Binary(call.integer("operation", 0, int64_t(std::size(kBinaryNames)) - 1));
  r.rank = int(call.integer("rank", 1, kMaxRank));
  readAxes(call, "shape", r.rank, r.shape, false);
  readAxes(call, "strides of a", r.rank, r.strideA, true);
  readAxes(call, "strides of b", r.rank, r.strideB, true);
  for (const int64_t stride : {r.strideA[r.rank - 1], r.strideB[r.rank - 1]}) {
    if (stride != 0 && stride != 1) call.fail<Napi::RangeError>("the last stride", "0 or 1", std::to_string(stride));
  }
  const int64_t size = sizeOf(call, "shape", r.rank, r.shape);
  const Reach a = reach(call, "a", r.rank, r.shape, r.strideA), b = reach(call, "b", r.rank, r.shape, r.strideB);
  if (a.lowest < 0 || b.lowest < 0) call.fail<Napi::RangeError>("strides", "none below 0", "one");
  r.a = call.values<const float>(1, "a", size == 0 ? 0 : a.highest + 1);
  r.b = call.values<const float>(2, "b", size == 0 ? 0 : b.highest + 1);
  r.y =
      comparesValues(r.op) ? static_cast<void*>(call.values<uint8_t>(3, "y", size)) : call.values<float>(3, "y", size);
  if (size > 0) check(call.env(), e.operations->binary(e.state, r));
}

void select(const Engine& e, Call& call) {
  SelectRequest r{};
  r.size = call.size("size");
  r.condition = call.values<const uint8_t>(1, "condition", r.size);
  r.a = call.values<const float>(2, "a", r.size);
  r.b = call.values<const float>(3, "b", r.size);
  r.y = call.values<float>(4, "y", r.size);
  check(call.env(), e.operations->select(e.state, r));
}

void cast(const Engine& e, Call& call) {
  CastRequest r{};
  r.size = call.size("size");
  const Array x = call.array(1, "x", r.size), y = call.array(2, "y", r.size);
  const auto typeOf = [&](const char* field, const Array& array) {
    switch (array.type) {
      case napi_float32_array: return Type::float32;
      case napi_int32_array: return Type::int32;
      case napi_uint8_array: return Type::boolean;
      case napi_uint16_array: return Type::bfloat16;
      default: call.wrongType(field);
    }
  };
  r.from = typeOf("x", x);
  r.to = typeOf("y", y);
  if (r.from == Type::bfloat16 && r.to != Type::float32) call.wrongType("y");
  if (r.to == Type::bfloat16 && r.from != Type::float32) call.wrongType("x");
  r.x = x.data;
  r.y = y.data;
  check(call.env(), e.operations->cast(e.state, r));
}

void copy(const Engine& e, Call& call) {
  CopyRequest r{};
  r.rank = int(call.integer("rank", 1, kMaxRank));
  const int64_t beginX = call.size("offset of x"), beginY = call.size("offset of y");
  readAxes(call, "shape", r.rank, r.shape, false);
  readAxes(call, "strides of x", r.rank, r.strideX, true);
  readAxes(call, "strides of y", r.rank, r.strideY, true);
  const Array x = call.words(1, "x", 0), y = call.words(2, "y", 0);
  if (x.type != y.type) call.wrongType("y");
  const int64_t size = sizeOf(call, "shape", r.rank, r.shape);
  if (size == 0) return;
  // Each element must have its own place, so that no box of zero strides occupies a thread forever.
  if (size > y.length) call.fail<Napi::RangeError>("y", std::to_string(size) + " values", std::to_string(y.length));
  const auto within = [&](const char* field, const Array& array, int64_t begin, const int64_t* strides) {
    const Reach range = reach(call, field, r.rank, r.shape, strides);
    if (begin + range.lowest < 0 || range.highest >= array.length - begin) {
      call.fail<Napi::RangeError>(field, "a box within " + std::to_string(array.length) + " values", "a larger one");
    }
  };
  within("x", x, beginX, r.strideX);
  within("y", y, beginY, r.strideY);
  r.bytes = int(bytesPerElement(x.type));
  r.x = static_cast<const char*>(x.data) + beginX * r.bytes;
  r.y = static_cast<char*>(y.data) + beginY * r.bytes;
  check(call.env(), e.operations->copy(e.state, r));
}

void fill(const Engine& e, Call& call) {
  FillRequest r{};
  r.size = call.size("size");
  const double value = call.number("value");
  const Array y = call.words(1, "y", r.size);
  r.bytes = int(bytesPerElement(y.type));
  r.y = y.data;
  if (y.type == napi_float32_array) {
    r.value = __builtin_bit_cast(uint32_t, float(value));
  } else if (value >= -2147483648.0 && value <= 4294967295.0) {
    r.value = uint32_t(int64_t(value));
  } else {
    call.fail<Napi::RangeError>("value", "an integer of 32 bits", std::to_string(value));
  }
  check(call.env(), e.operations->fill(e.state, r));
}

void reduce(const Engine& e, Call& call) {
  ReduceRequest r{};
  r.op = Reduction(call.integer("operation", 0, int64_t(std::size(kReductionNames)) - 1));
  r.outer = call.size("outer");
  r.n = call.integer("n", 1, int64_t(1) << 53);
  r.inner = call.size("inner");
  r.x = call.values<const float>(1, "x", call.product("x", {r.outer, r.n, r.inner}));
  r.y = call.values<float>(2, "y", r.outer * r.inner);
  if (r.outer * r.inner > 0) check(call.env(), e.operations->reduce(e.state, r));
}

void arg(const Engine& e, Call& call) {
  ArgRequest r{};
  r.smallest = call.integer("smallest", 0, 1) != 0;
  r.rows = call.size("rows");
  r.n = call.integer("n", 1, INT32_MAX);
  r.x = call.values<const float>(1, "x", call.product("x", {r.rows, r.n}));
  r.y = call.values<int32_t>(2, "y", r.rows);
  check(call.env(), e.operations->arg(e.state, r));
}

void softmax(const Engine& e, Call& call) {
  SoftmaxRequest r{};
  r.log = call.integer("log", 0, 1) != 0;
  r.rows = call.size("rows");
  r.n = call.integer("n", 1, int64_t(1) << 53);
  const int64_t size = call.product("x", {r.rows, r.n});
  r.x = call.values<const float>(1, "x", size);
  r.y = call.values<float>(2, "y", size);
  check(call.env(), e.operations->softmax(e.state, r));
}

void gather(const Engine& e, Call& call) {
  GatherRequest r{};
  r.batch = call.size("batch");
  r.outer = call.size("outer");
  r.n = call.size("n");
  r.inner = call.size("inner");
  r.indicesPerBatch = call.size("indices for each batch");
  const Array x = call.array(1, "x", call.product("x", {r.batch, r.outer, r.n, r.inner}));
  const int64_t count = call.product("indices", {r.batch, r.indicesPerBatch});
  r.indices = call.values<const int32_t>(2, "indices", count);
  const int64_t size = call.product("y", {r.batch, r.outer, r.indicesPerBatch, r.inner});
  const Array y = call.array(3, "y", size);
  if (x.type != y.type) call.wrongType("y");
  // If written before all indices are read, they would no longer be the checked ones.
  if (y.overlaps(call.array(2, "indices", 0)))
    call.fail<Napi::RangeError>("y", "memory apart from indices", "an overlapping range");
  for (int64_t i = 0; i < count; ++i) {
    if (r.indices[i] >= 0 && r.indices[i] < r.n) continue;
    call.fail<Napi::RangeError>(("indices[" + std::to_string(i) + "]").c_str(),
                                "an index from 0 to " + std::to_string(r.n - 1), std::to_string(r.indices[i]));
  }
  r.bytes = int(bytesPerElement(x.type));
  r.x = x.data;
  r.y = y.data;
  if (size > 0) check(call.env(), e.operations->gather(e.state, r));
}

void scatterAdd(const Engine& e, Call& call) {
  ScatterAddRequest r{};
  r.rows = call.size("rows");
  r.n = call.size("n");
  r.inner = call.size("inner");
  r.x = call.values<const float>(1, "x", call.product("x", {r.rows, r.inner}));
  r.indices = call.values<const int32_t>(2, "indices", r.rows);
  r.y = call.values<float>(3, "y", call.product("y", {r.n, r.inner}));
  check(call.env(), e.operations->scatterAdd(e.state, r));
}

void addN(const Engine& e, Call& call) {
  const int64_t size = call.size("size");
  std::vector<const float*> x;
  for (size_t i = 2; i < call.length(); ++i) x.push_back(call.values<const float>(i, "x", size));
  if (x.empty()) call.fail<Napi::RangeError>("x", "an array at least", "none");
  check(call.env(), e.operations->addN(e.state, {size, x, call.values<float>(1, "y", size)}));
}

Packed* packedOf(const Napi::Value& value) {
  bool tagged = false;
  void* packed = nullptr;
  if (!value.IsObject() || napi_check_object_type_tag(value.Env(), value, &kPackedTag, &tagged) != napi_ok || !tagged ||
      napi_unwrap(value.Env(), value, &packed) != napi_ok) {
    return nullptr;
  }
  return static_cast<Packed*>(packed);
}

// One past the last element of a matrix. Its elements do not overlap: rows or columns are contiguous.
int64_t endOf(const Call& call, const char* field, int64_t rows, int64_t columns, int64_t strideRow,
              int64_t strideColumn) {
  const int64_t size = call.product(field, {rows, columns});
  if (size == 0) return 0;
  const bool byRows = strideColumn == 1 && strideRow >= columns, byColumns = strideRow == 1 && strideColumn >= rows;
  if (!byRows && !byColumns) {
    call.fail<Napi::RangeError>(field, "a matrix whose rows or columns are contiguous", "other strides");
  }
  const int64_t shape[] = {rows, columns}, strides[] = {strideRow, strideColumn};
  return reach(call, field, 2, shape, strides).highest + 1;
}

int64_t highest(const Call& call, const char* field, std::span<const double> offsets) {
  double most = 0;
  for (const double offset : offsets) {
    if (!(offset >= 0 && offset <= 9007199254740991.0) || offset != std::floor(offset)) {
      call.fail<Napi::RangeError>(field, "integers from 0 to 2^53 - 1", std::to_string(offset));
    }
    most = std::max(most, offset);
  }
  return int64_t(most);
}

void readRight(Call& call, Matrix& right, size_t index, int64_t begin) {
  const int64_t end = endOf(call, "b", right.k, right.n, right.strideK, right.strideN);
  const Array b = call.array(index, "b", end == 0 ? 0 : begin + end);
  if (b.type == napi_float32_array) {
    right.float32 = static_cast<const float*>(b.data);
  } else if (b.type == napi_uint16_array) {
    right.bfloat16 = static_cast<const uint16_t*>(b.data);
  } else {
    call.wrongType("b");
  }
}

void matMul(const Engine& e, Call& call) {
  MatMulRequest r{};
  r.precision = Precision(call.integer("precision", 0, 1));
  r.batch = call.size("batch");
  r.m = call.size("m");
  r.right.k = call.size("k");
  r.right.n = call.size("n");
  r.strideM = call.size("stride of a's rows");
  r.strideK = call.size("stride of a's columns");
  r.right.strideK = call.size("stride of b's rows");
  r.right.strideN = call.size("stride of b's columns");
  const int64_t activation = call.integer("activation", -1, int64_t(std::size(kUnaryNames)) - 1);
  r.activates = activation >= 0;
  r.activation = Unary(std::max<int64_t>(0, activation));
  r.alpha = float(call.number("alpha"));
  r.accumulates = call.integer("accumulates", 0, 1) != 0;
  r.batchA = call.numbers("batch offsets of a", r.batch);
  r.batchB = call.numbers("batch offsets of b", r.batch);
  const int64_t endA = endOf(call, "a", r.m, r.right.k, r.strideM, r.strideK);
  r.a = call.values<const float>(1, "a",
                                 r.batch == 0 || endA == 0 ? 0 : highest(call, "batch offsets of a", r.batchA) + endA);
  const int64_t beginB = highest(call, "batch offsets of b", r.batchB);
  if (Packed* packed = packedOf(call.value(2))) {
    if (!packed->matrix) call.fail<Napi::TypeError>("b", "a packed matrix", "one that was freed");
    if (packed->operations != e.operations)
      call.fail<Napi::TypeError>("b", "a packed matrix of this device", "one of another");
    if (beginB != 0) call.fail<Napi::RangeError>("batch offsets of b", "0 for a packed matrix", std::to_string(beginB));
    r.packed = packed->matrix;
  } else {
    readRight(call, r.right, 2, beginB);
  }
  if (!call.isNull(3)) r.bias = call.values<const float>(3, "bias", r.right.n);
  r.c = call.values<float>(4, "c", call.product("c", {r.batch, r.m, r.right.n}));
  check(call.env(), e.operations->matMul(e.state, r));
}

Napi::Value pack(const Engine& e, Call& call) {
  const auto precision = Precision(call.integer("precision", 0, 1));
  Matrix right{};
  right.k = call.integer("k", 1, int64_t(1) << 53);
  right.n = call.integer("n", 1, int64_t(1) << 53);
  right.strideK = call.size("stride of rows");
  right.strideN = call.size("stride of columns");
  readRight(call, right, 1, 0);
  const Napi::Env env = call.env();
  PackedMatrix* matrix = nullptr;
  check(env, e.operations->pack(e.state, precision, right, matrix));
  auto packed = std::make_unique<Packed>(Packed{matrix, e.operations, e.operations->packedBytes(*matrix)});
  const auto release = [](napi_env environment, void* data, void*) {
    auto* packed = static_cast<Packed*>(data);
    int64_t total;
    if (packed->matrix) napi_adjust_external_memory(environment, -packed->bytes, &total);
    packed->free();
    delete packed;
  };
  const Napi::Object result = Napi::Object::New(env);
  if (napi_type_tag_object(env, result, &kPackedTag) != napi_ok ||
      napi_wrap(env, result, packed.get(), release, nullptr, nullptr) != napi_ok) {
    packed->free();
    throw Napi::Error::New(env);
  }
  int64_t total;
  napi_adjust_external_memory(env, packed->bytes, &total);
  Napi::Object(result).Set("bytes", double(packed.release()->bytes));
  return result;
}

template <size_t n>
Napi::Array namesOf(Napi::Env env, const char* const (&names)[n]) {
  Napi::Array result = Napi::Array::New(env, n);
  for (uint32_t i = 0; i < n; ++i) result[i] = names[i];
  return result;
}

}  // namespace

Napi::Object engineExports(Napi::Env env, engine::cpu::State& state) {
  const Engine e{&state, &engine::cpu::kOperations};
  Napi::Object exports = Napi::Object::New(env);
  exports.Set("unaryOperations", namesOf(env, kUnaryNames));
  exports.Set("binaryOperations", namesOf(env, kBinaryNames));
  exports.Set("reductions", namesOf(env, kReductionNames));
  exports.Set("maxRank", kMaxRank);
  addOperation(exports, "unary", e, unary);
  addOperation(exports, "binary", e, binary);
  addOperation(exports, "select", e, select);
  addOperation(exports, "cast", e, cast);
  addOperation(exports, "copy", e, copy);
  addOperation(exports, "fill", e, fill);
  addOperation(exports, "reduce", e, reduce);
  addOperation(exports, "arg", e, arg);
  addOperation(exports, "softmax", e, softmax);
  addOperation(exports, "gather", e, gather);
  addOperation(exports, "scatterAdd", e, scatterAdd);
  addOperation(exports, "addN", e, addN);
  addOperation(exports, "matMul", e, matMul);
  addTransformerOperations(exports, e);
  setMethod(exports, "pack", [e](const Napi::CallbackInfo& info) {
    Call call(info);
    return pack(e, call);
  });
  setMethod(exports, "freePacked", [](const Napi::CallbackInfo& info) {
    Packed* packed = info.Length() > 0 ? packedOf(info[0]) : nullptr;
    if (!packed) throw Napi::TypeError::New(info.Env(), "packed: expected a packed matrix");
    int64_t total;
    if (packed->matrix) napi_adjust_external_memory(info.Env(), -packed->bytes, &total);
    packed->free();
  });
  setMethod(exports, "instructionSets", [](const Napi::CallbackInfo& info) {
    const auto names = engine::cpu::instructionSets();
    Napi::Array result = Napi::Array::New(info.Env(), names.size());
    for (uint32_t i = 0; i < names.size(); ++i) result[i] = names[i];
    return result;
  });
  setMethod(exports, "settings", [&state](const Napi::CallbackInfo& info) {
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("instructionSet", engine::cpu::instructionSet(state));
    result.Set("threads", engine::cpu::threadCount(state));
    return result;
  });
  setMethod(exports, "configure", [&state](const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const Napi::Object settings = argument(info, 0, "settings");
    const int64_t threads = getInteger(settings, "threads", 1, 1024);
    const std::string name = getString(settings, "instructionSet");
    if (!engine::cpu::setInstructionSet(state, name)) {
      throw Napi::RangeError::New(env, "instructionSet: expected one that this processor has, got '" + name + "'");
    }
    engine::cpu::setThreadCount(state, int(threads));
  });
  return exports;
}

}  // namespace groupgrad::binding
