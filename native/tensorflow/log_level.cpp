// A library of its own, not part of the addon: scripts/setup-tensorflow.mjs links tfjs-node's binding to it, so that
// TF_CPP_MIN_LOG_LEVEL holds for the lines that TensorFlow 2.21 logs while it is being loaded. TensorFlow itself reads
// the variable only after those. Being linked with `-z initfirst`, this library is initialised before TensorFlow, which
// the dynamic linker has mapped by then.

#include <cstdlib>

// Abseil's own declarations. TensorFlow exports the function; where another version does not, nothing is changed.
namespace absl {
inline namespace lts_20250814 {
enum class LogSeverityAtLeast : int { kWarning = 1 };
[[gnu::weak]] void SetMinLogLevel(LogSeverityAtLeast level);
}  // namespace lts_20250814
}  // namespace absl

namespace {

// Unlike TensorFlow's default, without the variable informational lines are not logged: process.env of a worker thread
// is a copy, so that a program cannot set the variable from there.
absl::LogSeverityAtLeast minLogLevel() {
  const char* text = std::getenv("TF_CPP_MIN_LOG_LEVEL");
  if (text == nullptr) return absl::LogSeverityAtLeast::kWarning;
  char* end = nullptr;
  const long level = std::strtol(text, &end, 10);
  return absl::LogSeverityAtLeast(*end == '\0' ? level : 0);  // as TensorFlow reads it
}

[[gnu::constructor]] void setMinLogLevel() {
  if (absl::SetMinLogLevel != nullptr) absl::SetMinLogLevel(minLogLevel());
}

}  // namespace
