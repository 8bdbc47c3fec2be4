// Reductions and softmax. The order of a row's sum depends only on the row's length.
#pragma once

// Four vectors of partial sums, periodically added to a double, so that long rows keep their precision.
double sumRow(const float* x, int64_t n) {
  constexpr int64_t kStretch = 4096;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kStretch) {
    const int64_t end = std::min(n, begin + kStretch);
    Floats s0 = {}, s1 = {}, s2 = {}, s3 = {};
    int64_t i = begin;
    for (; i + 4 * kWidth <= end; i += 4 * kWidth) {
      s0 += load<Floats>(x + i);
      s1 += load<Floats>(x + i + kWidth);
      s2 += load<Floats>(x + i + 2 * kWidth);
      s3 += load<Floats>(x + i + 3 * kWidth);
    }
    for (; i + kWidth <= end; i += kWidth) s0 += load<Floats>(x + i);
    double rest = 0;
    for (; i < end; ++i) rest += double(x[i]);
    total += sumLanes((s0 + s1) + (s2 + s3)) + rest;
  }
  return total;
}

GROUPGRAD_INLINE Floats extremeOf(bool smallest, Floats a, Floats b) {
  return smallest ? minimumOf(a, b) : maximumOf(a, b);
}

// NaN if one of the values is.
float extremeRow(bool smallest, const float* x, int64_t n) {
  Floats m = splat(x[0]);
  int64_t i = 0;
  // A NaN in either operand propagates: in m by minimumOf and maximumOf, in x because comparisons with it fail.
  for (; i + kWidth <= n; i += kWidth) m = extremeOf(smallest, m, load<Floats>(x + i));
  if (i < n) {
    Floats rest = splat(x[0]);
    std::memcpy(&rest, x + i, size_t(n - i) * sizeof(float));
    m = extremeOf(smallest, m, rest);
  }
  float result = m[0];
  for (int lane = 1; lane < kWidth; ++lane) {
    const float v = m[lane];
    result = (smallest ? v < result : v > result) || v != v ? v : result;
  }
  return result;
}

// A NaN is ignored unless it comes first.
int64_t argRow(bool smallest, const float* x, int64_t n) {
  const Floats sign = splat(smallest ? -1.0f : 1.0f);
  if (x[0] != x[0]) return 0;
  Floats m = splat(x[0]) * sign;
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const Floats v = load<Floats>(x + i) * sign;
    m = v > m ? v : m;
  }
  float best = m[0];
  for (int lane = 1; lane < kWidth; ++lane) best = m[lane] > best ? m[lane] : best;
  for (; i < n; ++i) best = x[i] * sign[0] > best ? x[i] * sign[0] : best;
  const float wanted = best * sign[0];
  for (i = 0; i + kWidth <= n; i += kWidth) {
    const Ints hit = load<Floats>(x + i) == splat(wanted);
    int32_t any = 0;
    for (int lane = 0; lane < kWidth; ++lane) any |= hit[lane];
    if (any) break;
  }
  while (x[i] != wanted) ++i;
  return i;
}

template <class F>
GROUPGRAD_INLINE void foldColumns(const float* x, int64_t n, int64_t stride, float* y, int64_t width, F fold) {
  for (int64_t row = 0; row < n; ++row, x += stride) {
    int64_t i = 0;
    for (; i + kWidth <= width; i += kWidth) store(y + i, fold(load<Floats>(y + i), load<Floats>(x + i)));
    if (i < width) {
      const Floats v = fold(loadSome(y + i, width - i), loadSome(x + i, width - i));
      std::memcpy(y + i, &v, size_t(width - i) * sizeof(float));
    }
  }
}

// Sums go in stretches of rows, which are added up afterwards: fewer roundings in a row.
void reduceColumns(Reduction op, const float* x, int64_t n, int64_t stride, float* y, int64_t width) {
  constexpr int64_t kStretch = 128, kColumns = 256;
  const auto add = [](Floats a, Floats b) { return a + b; };
  for (int64_t begin = 0; begin < width; begin += kColumns, x += kColumns, y += kColumns) {
    const int64_t columns = std::min(kColumns, width - begin);
    if (op == Reduction::max || op == Reduction::min) {
      std::memcpy(y, x, size_t(columns) * sizeof(float));
      const bool smallest = op == Reduction::min;
      foldColumns(x + stride, n - 1, stride, y, columns,
                  [smallest](Floats a, Floats b) { return extremeOf(smallest, a, b); });
      continue;
    }
    std::fill_n(y, columns, 0.0f);
    for (int64_t row = 0; row < n; row += kStretch) {
      float part[kColumns] = {};
      foldColumns(x + row * stride, std::min(kStretch, n - row), stride, part, columns, add);
      foldColumns(part, 1, 0, y, columns, add);
    }
    if (op == Reduction::mean) {
      for (int64_t i = 0; i < columns; ++i) y[i] = y[i] / float(n);
    }
  }
}

// The sum of exp(x - m), whose terms are written to `y` if it is not null.
double sumOfExponentials(const float* x, float* y, int64_t n, float m) {
  constexpr int64_t kStretch = 4096;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kStretch) {
    const int64_t end = std::min(n, begin + kStretch);
    Floats sum = {};
    int64_t i = begin;
    for (; i + kWidth <= end; i += kWidth) {
      const Floats e = exponential(load<Floats>(x + i) - m);
      if (y) store(y + i, e);
      sum += e;
    }
    if (i < end) {
      Floats e = exponential(loadSome(x + i, end - i) - m);
      if (y) std::memcpy(y + i, &e, size_t(end - i) * sizeof(float));
      for (int lane = 0; lane < kWidth; ++lane) e[lane] = lane < end - i ? e[lane] : 0;
      sum += e;
    }
    total += sumLanes(sum);
  }
  return total;
}

void softmaxRow(bool log, const float* x, float* y, int64_t n) {
  const float m = extremeRow(false, x, n);
  const double sum = sumOfExponentials(x, log ? nullptr : y, n, m);
  // Subtracts the maximum first: adding the logarithm to it could lose the logarithm.
  const Floats shift = splat(m), scale = splat(log ? float(std::log(sum)) : float(1 / sum));
  const auto finish = [&](Floats v, Floats e) { return log ? (v - shift) - scale : e * scale; };
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    store(y + i, log ? finish(load<Floats>(x + i), Floats{}) : finish(Floats{}, load<Floats>(y + i)));
  }
  if (i < n) {
    const Floats v = log ? finish(loadSome(x + i, n - i), Floats{}) : finish(Floats{}, loadSome(y + i, n - i));
    std::memcpy(y + i, &v, size_t(n - i) * sizeof(float));
  }
}
