// The inner loops of a transformer's primitives. As in elementwise.inl, a remainder that does not fill a vector is
// computed as a vector too.
#pragma once

// Calls body(i, count) for each vector of [0, n).
template <class F>
GROUPGRAD_INLINE void eachVector(int64_t n, F body) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) body(i, int64_t(kWidth));
  if (i < n) body(i, n - i);
}

GROUPGRAD_INLINE Floats loadUpTo(const float* p, int64_t count) {
  return count == kWidth ? load<Floats>(p) : loadSome(p, count);
}
GROUPGRAD_INLINE void storeUpTo(float* p, Floats v, int64_t count) {
  if (count == kWidth) return store(p, v);
  std::memcpy(p, &v, size_t(count) * sizeof(float));
}

GROUPGRAD_INLINE Ints lanes() {
  Ints result;
  for (int lane = 0; lane < kWidth; ++lane) result[lane] = lane;
  return result;
}

// The sum of term(i, count) over the vectors of [0, n); lanes from `count` on do not count.
template <class F>
GROUPGRAD_INLINE double sumOfVectors(int64_t n, F term) {
  Floats s0 = {}, s1 = {};
  int64_t i = 0;
  for (; i + 2 * kWidth <= n; i += 2 * kWidth) {
    s0 += term(i, int64_t(kWidth));
    s1 += term(i + kWidth, int64_t(kWidth));
  }
  for (; i < n; i += kWidth) {
    const int64_t count = std::min<int64_t>(kWidth, n - i);
    s0 += lanes() < int32_t(count) ? term(i, count) : Floats{};
  }
  return sumLanes(s0 + s1);
}

float dotRow(const float* a, const float* b, int64_t n) {
  return float(
      sumOfVectors(n, [=](int64_t i, int64_t count) { return loadUpTo(a + i, count) * loadUpTo(b + i, count); }));
}

// In pieces, so that long arrays keep their precision.
double sumOfSquares(const float* x, int64_t n) {
  constexpr int64_t kStretch = 4096;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kStretch, x += kStretch) {
    total += sumOfVectors(std::min(kStretch, n - begin), [=](int64_t i, int64_t count) {
      const Floats v = loadUpTo(x + i, count);
      return v * v;
    });
  }
  return total;
}

float rmsNormRow(const float* x, const float* weight, float* y, int64_t n, float epsilon, float offset) {
  const float mean = float(sumOfSquares(x, n) / double(n));
  const float scale = 1 / __builtin_sqrtf(mean + epsilon);
  eachVector(n, [=](int64_t i, int64_t count) {
    storeUpTo(y + i, loadUpTo(x + i, count) * scale * (loadUpTo(weight + i, count) + offset), count);
  });
  return scale;
}

void rmsNormBackwardRow(const float* dy, const float* x, const float* weight, float scale, float offset, float* dx,
                        float* dWeight, int64_t n) {
  const auto unit = [=](int64_t i, int64_t count) { return loadUpTo(x + i, count) * scale; };
  const auto dUnit = [=](int64_t i, int64_t count) {
    return loadUpTo(dy + i, count) * (loadUpTo(weight + i, count) + offset);
  };
  const double sum = sumOfVectors(n, [&](int64_t i, int64_t count) { return dUnit(i, count) * unit(i, count); });
  const float along = float(sum / double(n));
  eachVector(n, [&](int64_t i, int64_t count) {
    storeUpTo(dx + i, (dUnit(i, count) - unit(i, count) * along) * scale, count);
  });
  if (!dWeight) return;
  eachVector(n, [&](int64_t i, int64_t count) {
    storeUpTo(dWeight + i, loadUpTo(dWeight + i, count) + loadUpTo(dy + i, count) * unit(i, count), count);
  });
}

void rotateHead(const float* x, const float* cos, const float* sin, float* y, int64_t width, int64_t size,
                bool inverse) {
  const int64_t half = width / 2;
  const float sign = inverse ? -1 : 1;
  eachVector(half, [=](int64_t i, int64_t count) {
    const Floats a = loadUpTo(x + i, count), b = loadUpTo(x + half + i, count);
    const Floats sinA = loadUpTo(sin + i, count) * sign, sinB = loadUpTo(sin + half + i, count) * sign;
    storeUpTo(y + i, a * loadUpTo(cos + i, count) - b * sinA, count);
    storeUpTo(y + half + i, b * loadUpTo(cos + half + i, count) + a * sinB, count);
  });
  std::memcpy(y + width, x + width, size_t(size - width) * sizeof(float));
}

struct Activated {
  Floats value, slope;
};

// silu(x) = x s with s = sigmoid(x); its slope is s + x s (1 - s).
GROUPGRAD_INLINE Activated silu(Floats x) {
  const Floats s = sigmoid(x), value = x * s;
  return {value, s + value * (1.0f - s)};
}

// 0.5 x (1 + t) with t = tanh(u), u = sqrt(2 / pi) (x + 0.044715 x^3); its slope is 0.5 (1 + t) + 0.5 x (1 - t^2) u'.
GROUPGRAD_INLINE Activated gelu(Floats x) {
  constexpr float kScale = 0.7978845608028654f, kCubic = 0.044715f;
  const Floats square = x * x, t = hyperbolicTangent((x + square * x * kCubic) * kScale);
  const Floats inner = (square * (3 * kCubic) + 1.0f) * kScale;
  return {x * 0.5f * (t + 1.0f), ((t + 1.0f) + x * (1.0f - t * t) * inner) * 0.5f};
}

template <class F>
GROUPGRAD_INLINE void gatedUnitLoop(const float* gate, const float* up, float* y, int64_t n, F activation) {
  eachVector(n, [&](int64_t i, int64_t count) {
    storeUpTo(y + i, activation(loadUpTo(gate + i, count)).value * loadUpTo(up + i, count), count);
  });
}
void gatedUnit(bool isGelu, const float* gate, const float* up, float* y, int64_t n) {
  if (isGelu) return gatedUnitLoop(gate, up, y, n, gelu);
  gatedUnitLoop(gate, up, y, n, silu);
}

template <class F>
GROUPGRAD_INLINE void gatedUnitBackwardLoop(const float* dy, const float* gate, const float* up, float* dGate,
                                            float* dUp, int64_t n, F activation) {
  eachVector(n, [&](int64_t i, int64_t count) {
    const Floats d = loadUpTo(dy + i, count);
    const Activated a = activation(loadUpTo(gate + i, count));
    storeUpTo(dGate + i, d * loadUpTo(up + i, count) * a.slope, count);
    storeUpTo(dUp + i, d * a.value, count);
  });
}
void gatedUnitBackward(bool isGelu, const float* dy, const float* gate, const float* up, float* dGate, float* dUp,
                       int64_t n) {
  if (isGelu) return gatedUnitBackwardLoop(dy, gate, up, dGate, dUp, n, gelu);
  gatedUnitBackwardLoop(dy, gate, up, dGate, dUp, n, silu);
}

// Which lanes of the vector at i are within [low, high).
GROUPGRAD_INLINE Ints within(int64_t i, int64_t low, int64_t high) {
  const Ints at = lanes() + int32_t(i);
  return (at >= int32_t(low)) & (at < int32_t(high));
}

float softmaxBlock(float* products, int64_t low, int64_t high, int64_t n, const Scoring& scoring, float& largest,
                   float& total) {
  if (low >= high) {
    for (int64_t i = 0; i < n; i += kWidth) store(products + i, Floats{});
    return 1;
  }
  Floats peak = splat(largest);
  for (int64_t i = 0; i < n; i += kWidth) {
    Floats score = load<Floats>(products + i) * scoring.scale;
    if (scoring.softCap != 0) score = hyperbolicTangent(score / scoring.softCap) * scoring.softCap;
    score = within(i, low, high) ? score : splat(-kInfinity);
    store(products + i, score);
    peak = larger(peak, score);
  }
  float now = peak[0];
  for (int lane = 1; lane < kWidth; ++lane) now = peak[lane] > now ? peak[lane] : now;
  const float factor = exponential(splat(largest - now))[0];
  Floats sum = {};
  for (int64_t i = 0; i < n; i += kWidth) {
    const Floats p = exponential(load<Floats>(products + i) - now);
    store(products + i, p);
    sum += p;
  }
  total = total * factor + float(sumLanes(sum));
  largest = now;
  return factor;
}

void softmaxBlockBackward(float* products, float* gradients, int64_t low, int64_t high, int64_t n,
                          const Scoring& scoring, const float* logSumExp, const float* along, int64_t stride) {
  const auto at = [stride](const float* p, int64_t i, int64_t count) {
    return stride == 0 ? splat(*p) : loadUpTo(p + i, count);
  };
  for (int64_t i = 0; i < n; i += kWidth) {
    const int64_t count = std::min<int64_t>(kWidth, n - i);
    const Ints seen = within(i, low, high);
    Floats score = load<Floats>(products + i) * scoring.scale, slope = splat(scoring.scale);
    if (scoring.softCap != 0) {
      const Floats t = hyperbolicTangent(score / scoring.softCap);
      score = t * scoring.softCap;
      slope *= 1.0f - t * t;
    }
    const Floats p = exponential(score - at(logSumExp, i, count));
    const Floats d = p * (load<Floats>(gradients + i) - at(along, i, count)) * slope;
    store(products + i, seen ? p : Floats{});
    store(gradients + i, seen ? d : Floats{});
  }
}

void adamW(const AdamWRequest& r, int64_t begin, int64_t end) {
  const float scale = float(r.scale), epsilon = float(r.epsilon), rate = float(r.rate), kept = float(1 - r.decay);
  const float beta1 = float(r.beta1), beta2 = float(r.beta2), correction = float(r.correction);
  const float rest1 = float(1 - r.beta1), rest2 = float(1 - r.beta2);
  eachVector(end - begin, [&](int64_t offset, int64_t count) {
    const int64_t i = begin + offset;
    const Floats gradient = loadUpTo(r.gradient + i, count) * scale;
    const Floats mean = loadUpTo(r.mean + i, count) * beta1 + gradient * rest1;
    const Floats square = loadUpTo(r.square + i, count) * beta2 + gradient * gradient * rest2;
    const Floats step = mean / (squareRoot(square / correction) + epsilon) * rate;
    storeUpTo(r.newVariable + i, loadUpTo(r.variable + i, count) * kept - step, count);
    storeUpTo(r.newMean + i, mean, count);
    storeUpTo(r.newSquare + i, square, count);
  });
}
