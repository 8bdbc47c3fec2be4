#include "packing.hpp"

#include <cstring>
#include <type_traits>

namespace groupgrad::tensorflow {

namespace {

class Writer {
 public:
  std::vector<int32_t> words;

  template <class T>
  void write(const T* values, size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    const size_t at = words.size(), bytes = count * sizeof(T);
    words.resize(at + (bytes + 3) / 4);
    if (bytes > 0) std::memcpy(words.data() + at, values, bytes);
  }
  template <class T>
  void write(const T& value) {
    write(&value, 1);
  }
  // Its length, then its values.
  template <class T>
  void write(const std::vector<T>& values) {
    write(int64_t(values.size()));
    write(values.data(), values.size());
  }
};

class Reader {
 public:
  Reader(const int32_t* words, int64_t count) : words_(words), left_(count) {}

  template <class T>
  bool read(T* values, size_t count) {
    const int64_t needed = int64_t((count * sizeof(T) + 3) / 4);
    if (needed > left_) return false;
    if (count > 0) std::memcpy(static_cast<void*>(values), words_, count * sizeof(T));
    words_ += needed;
    left_ -= needed;
    return true;
  }
  template <class T>
  bool read(T& value) {
    return read(&value, 1);
  }
  template <class T>
  bool read(std::vector<T>& values) {
    int64_t count = 0;
    if (!read(count) || count < 0 || count > left_ * 4) return false;
    values.resize(size_t(count));
    return read(values.data(), values.size());
  }
  bool atEnd() const { return left_ == 0; }

 private:
  const int32_t* words_;
  int64_t left_;
};

// Distinguishes requests from reports, and structs of different layouts.
template <class... Structs>
constexpr int32_t tagOf(int32_t kind) {
  int32_t tag = kind;
  ((tag = tag * 31 + int32_t(sizeof(Structs))), ...);
  return tag;
}
constexpr int32_t kCallTag = tagOf<LogitsRequest, AdvantageRequest>(1);
constexpr int32_t kReportTag = tagOf<LossMetrics, AdvantageMetrics>(2);

}  // namespace

std::vector<int32_t> pack(const Call& call) {
  Writer out;
  out.write(kCallTag);
  out.write(call.logits);
  out.write(call.advantage);
  const uint8_t flags[] = {call.fused, call.inPlace, call.rows};
  out.write(flags, std::size(flags));
  out.write(call.rewards);
  out.write(call.offsets);
  return out.words;
}

bool unpack(const int32_t* values, int64_t count, Call& call) {
  Reader in(values, count);
  int32_t tag = 0;
  uint8_t flags[3] = {};
  if (!in.read(tag) || tag != kCallTag || !in.read(call.logits) || !in.read(call.advantage) ||
      !in.read(flags, std::size(flags)) || !in.read(call.rewards) || !in.read(call.offsets) || !in.atEnd()) {
    return false;
  }
  call.fused = flags[0];
  call.inPlace = flags[1];
  call.rows = flags[2];
  if (!call.fused) return true;
  call.advantage.rewards = call.rewards.data();
  call.advantage.offsets = call.offsets.data();
  return int64_t(call.offsets.size()) == call.advantage.groups + 1;
}

std::vector<int32_t> pack(const Report& report) {
  Writer out;
  out.write(kReportTag);
  out.write(report.loss);
  out.write(report.advantage);
  for (const auto* values : {&report.advantages, &report.weights, &report.groupMean, &report.groupStd})
    out.write(*values);
  out.write(report.active);
  out.write(report.logProbs);
  out.write(report.entropies);
  return out.words;
}

bool unpack(const int32_t* values, int64_t count, Report& report) {
  Reader in(values, count);
  int32_t tag = 0;
  return in.read(tag) && tag == kReportTag && in.read(report.loss) && in.read(report.advantage) &&
         in.read(report.advantages) && in.read(report.weights) && in.read(report.groupMean) &&
         in.read(report.groupStd) && in.read(report.active) && in.read(report.logProbs) && in.read(report.entropies) &&
         in.atEnd();
}

}  // namespace groupgrad::tensorflow
