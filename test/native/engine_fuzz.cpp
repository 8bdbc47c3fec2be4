// Random requests to the engine's operations, meant to be built with sanitizers (GROUPGRAD_SANITIZE): every array is
// allocated with its exact size. `engine_fuzz [runs] [seed]`: run i draws from seed + i. For any request, the bits
// do not depend on the number of threads, and no memory is read or written outside its arrays. Products do not depend
// on whether a bfloat16 matrix is stored as such; and instruction sets that guarantee equal bits return them.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "../../native/core/bfloat16.hpp"
#include "../../native/core/platform.hpp"
#include "../../native/engine/cpu/engine.hpp"

namespace groupgrad::engine::test {
namespace {

uint64_t currentSeed = 0;

[[noreturn]] void fail(const char* what) {
  std::printf("FAILED %s: repeat with `engine_fuzz 1 %llu`\n", what, (unsigned long long)currentSeed);
  std::exit(1);
}

class Draw {
 public:
  explicit Draw(uint64_t seed) : engine_(seed) {}
  int64_t integer(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine_); }
  bool chance(double p) { return std::uniform_real_distribution<double>(0, 1)(engine_) < p; }
  // Mostly small, sometimes enough for several threads.
  int64_t size() { return chance(0.2) ? integer(60000, 140000) : integer(0, 200); }
  std::vector<float> normals(int64_t n) {
    std::vector<float> result(size_t(n), 0);
    std::normal_distribution<float> normal;
    for (float& x : result) x = normal(engine_);
    return result;
  }
  // The same, sometimes with a special value.
  std::vector<float> floats(int64_t n) {
    std::vector<float> result = normals(n);
    if (n > 0 && chance(0.2)) {
      const float special[] = {__builtin_nanf(""), kInfinity, -kInfinity, -0.0f, 1e38f, -1e38f, 1e-40f, 3e9f};
      result[size_t(integer(0, n - 1))] = special[integer(0, 7)];
    }
    return result;
  }

 private:
  std::mt19937_64 engine_;
};

// Output of an operation, with its exact size and without earlier values.
template <class T>
struct Output {
  explicit Output(int64_t n) : size(n), data(new T[size_t(n)]) {}
  int64_t size;
  std::unique_ptr<T[]> data;
  std::string bytes() const { return {reinterpret_cast<const char*>(data.get()), size_t(size) * sizeof(T)}; }
};

void require(const Status& status) {
  if (!status.ok()) fail(status.message);
}

constexpr const Operations& op = cpu::kOperations;

// Each draws a request, runs it, and returns the bytes of its result.
std::string unary(Draw& d, void* s) {
  const int64_t n = d.size();
  const std::vector<float> x = d.floats(n);
  Output<float> y(n);
  require(op.unary(s, {Unary(d.integer(0, int64_t(std::size(kUnaryNames)) - 1)), n, 0.5f, x.data(), y.data.get()}));
  return y.bytes();
}

template <class T>
std::string binaryInto(Draw& d, void* s, Binary operation) {
  BinaryRequest r{};
  r.op = operation;
  r.rank = int(d.integer(1, 4));
  int64_t size = 1, a = 1, b = 1;
  for (int axis = r.rank - 1; axis >= 0; --axis) {
    r.shape[axis] = axis == 0 && d.chance(0.1) ? d.integer(500, 2000) : d.integer(1, 9);
    const bool spreadA = d.chance(0.3), spreadB = d.chance(0.3);
    r.strideA[axis] = spreadA ? 0 : a;
    r.strideB[axis] = spreadB ? 0 : b;
    if (!spreadA) a *= r.shape[axis];
    if (!spreadB) b *= r.shape[axis];
    size *= r.shape[axis];
  }
  const std::vector<float> x = d.floats(a), z = d.floats(b);
  Output<T> y(size);
  r.a = x.data();
  r.b = z.data();
  r.y = y.data.get();
  require(op.binary(s, r));
  return y.bytes();
}
std::string binary(Draw& d, void* s) {
  const auto operation = Binary(d.integer(0, int64_t(std::size(kBinaryNames)) - 1));
  return comparesValues(operation) ? binaryInto<uint8_t>(d, s, operation) : binaryInto<float>(d, s, operation);
}

std::string casts(Draw& d, void* s) {
  const int64_t n = d.size();
  const std::vector<float> x = d.floats(n);
  Output<int32_t> whole(n);
  require(op.cast(s, {Type::float32, Type::int32, n, x.data(), whole.data.get()}));
  Output<uint8_t> truth(n);
  require(op.cast(s, {Type::int32, Type::boolean, n, whole.data.get(), truth.data.get()}));
  Output<uint16_t> half(n);
  require(op.cast(s, {Type::float32, Type::bfloat16, n, x.data(), half.data.get()}));
  Output<float> back(n);
  require(op.cast(s, {Type::bfloat16, Type::float32, n, half.data.get(), back.data.get()}));
  Output<float> chosen(n);
  require(op.select(s, {n, truth.data.get(), x.data(), back.data.get(), chosen.data.get()}));
  const float* const terms[] = {x.data(), chosen.data.get(), x.data()};
  Output<float> sum(n);
  require(op.addN(s, {n, terms, sum.data.get()}));
  return whole.bytes() + truth.bytes() + half.bytes() + back.bytes() + chosen.bytes() + sum.bytes();
}

template <class T>
std::string copyOf(Draw& d, void* s) {
  CopyRequest r{};
  r.bytes = int(sizeof(T));
  r.rank = int(d.integer(1, 4));
  std::vector<int> order;
  int64_t size = 1;
  for (int axis = 0; axis < r.rank; ++axis) {
    r.shape[axis] = axis == 0 && d.chance(0.2) ? d.integer(500, 2000) : d.integer(1, 30);
    order.insert(order.begin() + d.integer(0, axis), axis);
    size *= r.shape[axis];
  }
  for (int64_t axis = r.rank - 1, stride = 1; axis >= 0; stride *= r.shape[axis--]) r.strideY[axis] = stride;
  int64_t length = 1, begin = 0;  // of x, axes in another order, some of them reversed or strided
  for (const int axis : order) {
    if (d.chance(0.1)) continue;
    r.strideX[axis] = length;
    length *= r.shape[axis];
    if (d.chance(0.2)) {
      begin += r.strideX[axis] * (r.shape[axis] - 1);
      r.strideX[axis] = -r.strideX[axis];
    }
  }
  std::vector<T> x(size_t(length), T{});
  for (T& value : x) value = T(d.integer(0, 255));
  Output<T> y(size);
  r.x = x.data() + begin;
  r.y = y.data.get();
  require(op.copy(s, r));
  Output<T> filled(size);
  require(op.fill(s, {r.bytes, size, 7, filled.data.get()}));
  return y.bytes() + filled.bytes();
}
std::string copy(Draw& d, void* s) { return d.chance(0.5) ? copyOf<uint8_t>(d, s) : copyOf<uint32_t>(d, s); }

std::string reductions(Draw& d, void* s) {
  const int64_t n = d.chance(0.1) ? d.integer(60000, 140000) : d.integer(1, 600);
  const int64_t outer = d.integer(0, 8), inner = n > 1000 ? 1 : d.chance(0.5) ? 1 : d.integer(1, 600);
  const std::vector<float> x = d.floats(outer * n * inner);
  Output<float> y(outer * inner);
  if (outer > 0) require(op.reduce(s, {Reduction(d.integer(0, 3)), outer, n, inner, x.data(), y.data.get()}));
  const int64_t rows = outer * inner;
  Output<int32_t> places(rows);
  require(op.arg(s, {d.chance(0.5), rows, n, x.data(), places.data.get()}));
  Output<float> shares(rows * n);
  require(op.softmax(s, {d.chance(0.5), rows, n, x.data(), shares.data.get()}));
  return y.bytes() + places.bytes() + shares.bytes();
}

std::string rowsByIndex(Draw& d, void* s) {
  const int64_t batch = d.integer(1, 3), outer = d.integer(1, 3), n = d.integer(1, 50), inner = d.integer(0, 300);
  const int64_t count = d.integer(0, 60);
  const std::vector<float> x = d.floats(batch * outer * n * inner);
  std::vector<int32_t> indices;
  for (int64_t i = 0; i < batch * count; ++i) indices.push_back(int32_t(d.integer(0, n - 1)));
  Output<float> y(batch * outer * count * inner);
  if (y.size > 0) {
    require(op.gather(s, {4, batch, outer, n, inner, count, x.data(), indices.data(), y.data.get()}));
  }
  for (int32_t& index : indices) index += int32_t(d.integer(-1, 1));
  const int64_t rows = batch * count;
  const std::vector<float> terms = d.floats(rows * inner);
  Output<float> sums(n * inner);
  require(op.scatterAdd(s, {rows, n, inner, terms.data(), indices.data(), sums.data.get()}));
  return y.bytes() + sums.bytes();
}

bool sameNumbers(const Output<float>& a, const Output<float>& b) {
  // It is not specified which of two NaN a sum keeps.
  const auto same = [](float x, float y) {
    return std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y) || (x != x && y != y);
  };
  return std::equal(a.data.get(), a.data.get() + a.size, b.data.get(), same);
}

std::string products(Draw& d, void* s) {
  MatMulRequest r{};
  r.precision = Precision(d.integer(0, 1));
  r.batch = d.chance(0.3) ? d.integer(0, 6) : 1;
  r.m = d.integer(0, d.chance(0.2) ? 300 : 40);
  r.right.k = d.chance(0.2) ? d.integer(500, 1100) : d.integer(0, 70);
  r.right.n = d.integer(0, d.chance(0.2) ? 300 : 70);
  const bool transposeA = d.chance(0.5), transposeB = d.chance(0.5), oneB = d.chance(0.5);
  r.strideM = transposeA ? 1 : r.right.k;
  r.strideK = transposeA ? r.m : 1;
  r.right.strideK = transposeB ? 1 : r.right.n;
  r.right.strideN = transposeB ? r.right.k : 1;
  std::vector<double> batchA, batchB;
  for (int64_t i = 0; i < r.batch; ++i) {
    batchA.push_back(double(i * r.m * r.right.k));
    batchB.push_back(oneB ? 0 : double(i * r.right.k * r.right.n));
  }
  r.batchA = batchA;
  r.batchB = batchB;
  const std::vector<float> a = d.floats(r.batch * r.m * r.right.k);
  const std::vector<float> b = d.floats((oneB ? 1 : r.batch) * r.right.k * r.right.n);
  std::vector<uint16_t> narrow(b.size());
  require(op.cast(s, {Type::float32, Type::bfloat16, int64_t(b.size()), b.data(), narrow.data()}));
  r.a = a.data();
  if (d.chance(0.3)) {
    r.right.bfloat16 = narrow.data();
  } else {
    r.right.float32 = b.data();
  }
  const std::vector<float> bias = d.floats(r.right.n);
  if (d.chance(0.5)) r.bias = bias.data();
  r.activates = d.chance(0.5);
  r.activation = Unary::sigmoid;
  r.accumulates = d.chance(0.3);
  const std::vector<float> before = d.floats(r.batch * r.m * r.right.n);
  const auto multiply = [&](Output<float>& c) {
    if (r.accumulates) std::copy(before.begin(), before.end(), c.data.get());
    r.c = c.data.get();
    require(op.matMul(s, r));
  };
  Output<float> c(r.batch * r.m * r.right.n);
  multiply(c);
  if (oneB && r.right.k > 0 && r.right.n > 0) {
    PackedMatrix* packed = nullptr;
    require(op.pack(s, r.precision, r.right, packed));
    Output<float> again(c.size);
    r.packed = packed;
    multiply(again);
    op.freePacked(packed);
    if (again.bytes() != c.bytes()) fail("a packed matrix changed the bits");
  }
  if (r.right.bfloat16) {
    std::vector<float> wide(b.size());
    require(op.cast(s, {Type::bfloat16, Type::float32, int64_t(b.size()), narrow.data(), wide.data()}));
    Output<float> expanded(c.size);
    r.packed = nullptr;
    r.right.bfloat16 = nullptr;
    r.right.float32 = wide.data();
    multiply(expanded);
    if (!sameNumbers(c, expanded)) fail("a matrix stored in bfloat16 gave other numbers than its float32 copy");
  }
  return c.bytes();
}

// One product in every instruction set. In float32 those with fused multiply-adds agree bit for bit, in bfloat16 those
// without an instruction for it, whose products of two factors are exact; all are within the bound of their arithmetic.
std::string setsOfProducts(Draw& d, void*) {
  const int64_t m = d.integer(1, 40), k = d.chance(0.3) ? d.integer(500, 1100) : d.integer(1, 70), n = d.integer(1, 70);
  const auto precision = Precision(d.integer(0, 1));
  const bool stored = d.chance(0.5);
  const std::vector<float> a = d.normals(m * k), b = d.normals(k * n);
  const auto round = [](std::vector<float> x) {
    for (float& value : x) value = std::bit_cast<float>(toBfloat16<uint32_t>(value) << 16);
    return x;
  };
  const bool rounds = precision == Precision::bfloat16;
  const std::vector<float> left = rounds ? round(a) : a, right = rounds || stored ? round(b) : b;
  std::vector<uint16_t> narrow;
  for (const float value : right) narrow.push_back(uint16_t(std::bit_cast<uint32_t>(value) >> 16));
  MatMulRequest r{};
  r.precision = precision;
  r.batch = 1;
  r.m = m;
  r.strideM = k;
  r.strideK = 1;
  r.right.k = k;
  r.right.n = n;
  r.right.strideK = n;
  r.right.strideN = 1;
  const std::vector<double> zero = {0};
  r.batchA = r.batchB = zero;
  r.a = a.data();
  if (stored) {
    r.right.bfloat16 = narrow.data();
  } else {
    r.right.float32 = b.data();
  }
  std::string agreed;
  for (const std::string_view name : cpu::instructionSets()) {
    const auto state = cpu::createState();
    cpu::setThreadCount(*state, 1);
    if (!cpu::setInstructionSet(*state, name)) fail("no such instruction set");
    Output<float> c(m * n);
    r.c = c.data.get();
    require(op.matMul(state.get(), r));
    for (int64_t i = 0; i < c.size; ++i) {
      double sum = 0, size = 0;
      for (int64_t j = 0; j < k; ++j) {
        const double term = double(left[size_t(i / n * k + j)]) * double(right[size_t(j * n + i % n)]);
        sum += term;
        size += std::abs(term);
      }
      // A chain of k roundings, two per pair; values flushed to 0 are far below it.
      if (!(std::abs(double(c.data[i]) - sum) <= double(k + 8) * 0x1p-24 * size)) fail("a product is not accurate");
    }
    const bool hasInstruction = name == "AVX512-BF16" || name == "AMX-BF16";
    if (rounds ? hasInstruction : name == "baseline") continue;
    if (agreed.empty()) agreed = c.bytes();
    if (c.bytes() != agreed) fail("an instruction set gave other bits than it promises");
  }
  return agreed;
}

std::string norms(Draw& d, void* s) {
  const int64_t rows = d.integer(0, 300), n = d.integer(1, d.chance(0.2) ? 1200 : 70);
  const float offset = d.chance(0.5) ? 1.0f : 0.0f;
  const std::vector<float> x = d.floats(rows * n), weight = d.floats(n), dy = d.floats(rows * n);
  Output<float> y(rows * n), scale(rows), dx(rows * n), dWeight(n);
  require(op.rmsNorm(s, {rows, n, 1e-5f, offset, x.data(), weight.data(), y.data.get(), scale.data.get()}));
  const bool wanted = d.chance(0.7);
  if (!wanted) std::fill_n(dWeight.data.get(), n, 0.0f);
  require(op.rmsNormBackward(s, {rows, n, offset, dy.data(), x.data(), weight.data(), scale.data.get(), dx.data.get(),
                                 wanted ? dWeight.data.get() : nullptr}));
  return y.bytes() + scale.bytes() + dx.bytes() + dWeight.bytes();
}

std::string rotations(Draw& d, void* s) {
  const int64_t positions = d.integer(1, 20), rows = positions * d.integer(0, 8), heads = d.integer(1, 5);
  const int64_t size = d.integer(1, 90), width = 2 * d.integer(0, size / 2);
  const std::vector<float> x = d.floats(rows * heads * size), cos = d.floats(positions * size);
  const std::vector<float> sin = d.floats(positions * size);
  Output<float> y(rows * heads * size);
  require(op.rotary(
      s, {rows, heads, size, width, positions, d.chance(0.5), x.data(), cos.data(), sin.data(), y.data.get()}));
  return y.bytes();
}

std::string gatedUnits(Draw& d, void* s) {
  const int64_t n = d.size();
  const bool gelu = d.chance(0.5);
  const std::vector<float> gate = d.floats(n), up = d.floats(n), dy = d.floats(n);
  Output<float> y(n), dGate(n), dUp(n);
  require(op.gatedUnit(s, {gelu, n, gate.data(), up.data(), y.data.get()}));
  require(op.gatedUnitBackward(s, {gelu, n, dy.data(), gate.data(), up.data(), dGate.data.get(), dUp.data.get()}));
  return y.bytes() + dGate.bytes() + dUp.bytes();
}

bool allFinite(const std::vector<float>& x) { return std::all_of(x.begin(), x.end(), isFinite); }

// The last position of each sequence through a cache, compared with `y`, the result of attention over all positions.
void decodesTheSame(Draw& d, void* s, const AttentionRequest& r, const std::string& y) {
  const AttentionShape& shape = r.shape;
  const int64_t heads = shape.keyValueHeads, size = shape.headSize, columns = d.integer(1, 60);
  const int64_t row = shape.heads * size, width = heads * size;
  DecodeAttentionRequest decode{};
  decode.shape = shape;
  decode.rows = r.sequences;
  decode.columns = columns;
  const std::vector<float> garbage(size_t(r.sequences * width * columns), 3);
  std::vector<std::vector<float>> keyBlocks(size_t(r.length / columns + 1), garbage), valueBlocks = keyBlocks;
  std::vector<int32_t> lengths;
  std::vector<float> query, key, value;
  std::string wanted;
  for (int64_t i = 0; i < r.sequences; ++i) {
    const int64_t end = (i + 1) * r.length;
    lengths.push_back(int32_t(r.length - r.starts[i]) - 1);
    query.insert(query.end(), r.query + (end - 1) * row, r.query + end * row);
    key.insert(key.end(), r.key + (end - 1) * width, r.key + end * width);
    value.insert(value.end(), r.value + (end - 1) * width, r.value + end * width);
    wanted += y.substr(size_t((end - 1) * row) * sizeof(float), size_t(row) * sizeof(float));
    for (int64_t p = 0; p < lengths.back(); ++p) {
      const int64_t from = (i * r.length + r.starts[i] + p) * width;
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t to = ((i * heads + h) * columns + p % columns) * size;
        std::copy_n(r.key + from + h * size, size, keyBlocks[size_t(p / columns)].data() + to);
        std::copy_n(r.value + from + h * size, size, valueBlocks[size_t(p / columns)].data() + to);
      }
    }
  }
  std::vector<float*> keys, values;
  for (auto& block : keyBlocks) keys.push_back(block.data());
  for (auto& block : valueBlocks) values.push_back(block.data());
  decode.keys = keys;
  decode.values = values;
  decode.lengths = lengths.data();
  decode.query = query.data();
  decode.key = key.data();
  decode.value = value.data();
  Output<float> decoded(int64_t(query.size()));
  decode.y = decoded.data.get();
  require(op.decodeAttention(s, decode));
  if (decoded.bytes() != wanted) fail("a cache changed the bits of attention");
}

std::string attentions(Draw& d, void* s) {
  AttentionShape shape{};
  shape.keyValueHeads = d.integer(1, 3);
  shape.heads = shape.keyValueHeads * (d.chance(0.05) ? d.integer(60, 140) : d.integer(1, 4));
  shape.headSize = d.chance(0.05) ? d.integer(500, 600) : d.integer(1, 40);
  shape.scale = 0.3f;
  shape.softCap = d.chance(0.3) ? 2.0f : 0.0f;
  shape.window = d.chance(0.4) ? d.integer(1, 160) : 0;
  const int64_t sequences = d.integer(0, 3), length = d.integer(0, d.chance(0.2) ? 300 : 40);
  std::vector<int32_t> starts;
  for (int64_t i = 0; i < sequences; ++i) starts.push_back(int32_t(d.chance(0.5) ? 0 : d.integer(0, length)));
  const int64_t queries = sequences * length * shape.heads, keys = sequences * length * shape.keyValueHeads;
  const std::vector<float> query = d.floats(queries * shape.headSize), dy = d.floats(queries * shape.headSize);
  const std::vector<float> key = d.floats(keys * shape.headSize), value = d.floats(keys * shape.headSize);
  Output<float> y(queries * shape.headSize), logSumExp(queries);
  const AttentionRequest forward{shape,      sequences,    length,       starts.data(),       query.data(),
                                 key.data(), value.data(), y.data.get(), logSumExp.data.get()};
  require(op.attention(s, forward));
  if (sequences * length > 0 && allFinite(query) && allFinite(key) && allFinite(value)) {
    decodesTheSame(d, s, forward, y.bytes());
  }
  Output<float> dQuery(queries * shape.headSize), dKey(keys * shape.headSize), dValue(keys * shape.headSize);
  require(op.attentionBackward(
      s, {shape, sequences, length, starts.data(), dy.data(), query.data(), key.data(), value.data(), y.data.get(),
          logSumExp.data.get(), dQuery.data.get(), dKey.data.get(), dValue.data.get()}));
  return y.bytes() + logSumExp.bytes() + dQuery.bytes() + dKey.bytes() + dValue.bytes();
}

std::string updates(Draw& d, void* s) {
  const int64_t n = d.size();
  const std::vector<float> variable = d.floats(n), mean = d.floats(n), square = d.floats(n), gradient = d.floats(n);
  Output<float> newVariable(n), newMean(n), newSquare(n);
  require(op.adamW(s, {n, 0.5, 0.9, 0.999, 1e-8, 1e-3, 1e-5, 0.1, variable.data(), mean.data(), square.data(),
                       gradient.data(), newVariable.data.get(), newMean.data.get(), newSquare.data.get()}));
  const std::span<const float> all[] = {variable, mean, square};
  Output<double> sum(1);
  require(op.sumOfSquares(s, {all, sum.data.get()}));
  return newVariable.bytes() + newMean.bytes() + newSquare.bytes() + sum.bytes();
}

std::string draws(Draw& d, void* s) {
  SampleRequest r{};
  r.rows = d.integer(0, 9);
  r.block = d.integer(1, d.chance(0.2) ? 900 : 30);
  r.vocab = r.block * d.integer(1, 40);
  r.allowed = d.chance(0.5) ? r.vocab : d.integer(1, r.vocab);
  r.temperature = d.chance(0.3) ? 1 : 0.4;
  r.cuts = d.chance(0.6);
  r.cut = {d.chance(0.5) ? 0 : d.integer(1, 60), d.chance(0.5) ? 1 : 0.7, d.chance(0.5) ? 0 : 0.1};
  r.masked = -1e9f;
  const std::vector<float> logits = d.floats(r.rows * r.vocab);
  std::vector<double> uniforms;
  std::vector<uint8_t> wanted;
  for (int64_t row = 0; row < r.rows; ++row) {
    uniforms.push_back(double(d.integer(0, 999)) / 1000);
    wanted.push_back(d.chance(0.9));
  }
  r.logits = logits.data();
  if (r.cuts || d.chance(0.7)) r.uniforms = uniforms.data();
  r.wanted = wanted.data();
  Output<int32_t> tokens(r.rows);
  Output<float> logProbs(r.rows);
  r.tokens = tokens.data.get();
  r.logProbs = logProbs.data.get();
  std::vector<std::vector<int32_t>> kept(r.cuts ? size_t(r.rows) : 0);
  r.kept = kept;
  require(op.sample(s, r));
  std::string ids;
  for (int64_t row = 0; row < r.rows; ++row) {
    const int32_t token = tokens.data[size_t(row)];
    if (token < -1 || token >= r.allowed) fail("a token that is not allowed");
    if (!r.cuts) continue;
    const std::vector<int32_t>& own = kept[size_t(row)];
    if (token >= 0 && !std::binary_search(own.begin(), own.end(), token)) fail("a token that was cut");
    for (const int32_t id : own) ids += std::to_string(id) + ' ';
  }
  return tokens.bytes() + logProbs.bytes() + ids;
}

constexpr std::string (*kKinds[])(Draw&, void*) = {unary,          binary,     casts,      copy,      reductions,
                                                   rowsByIndex,    products,   norms,      rotations, gatedUnits,
                                                   setsOfProducts, attentions, attentions, updates,   draws};

void run(uint64_t seed) {
  currentSeed = seed;
  Draw first(seed);
  const auto kind = kKinds[first.integer(0, int64_t(std::size(kKinds)) - 1)];
  const auto sets = cpu::instructionSets();
  const char* set = sets[size_t(first.integer(0, int64_t(sets.size()) - 1))];
  const Draw start = first;
  std::string expected;
  for (const int threads : {1, 3}) {
    const auto state = cpu::createState();
    cpu::setThreadCount(*state, threads);
    if (!cpu::setInstructionSet(*state, set)) fail("no such instruction set");
    Draw draw = start;
    const std::string bytes = kind(draw, state.get());
    if (threads == 1) expected = bytes;
    if (bytes != expected) fail("the number of threads changed the bits");
  }
}

}  // namespace
}  // namespace groupgrad::engine::test

int main(int count, char** arguments) {
  const uint64_t runs = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 300;
  const uint64_t seed = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 1;
  for (uint64_t i = 0; i < runs; ++i) groupgrad::engine::test::run(seed + i);
  std::printf("%llu requests to the engine\n", (unsigned long long)runs);
}
