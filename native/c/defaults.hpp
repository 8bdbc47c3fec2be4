// Written by `npm run native-defaults` from src/loss/config.ts, where changes belong.
#pragma once

#include <cmath>

#include "../core/config.hpp"

namespace groupgrad::defaults {

constexpr Ratio kRatio = Ratio::token;
constexpr Aggregation kAggregation = Aggregation::tokenMean;
constexpr double kMaxLength = NAN;
constexpr double kLogRatioClamp = INFINITY;
constexpr double kOffPolicyThreshold = INFINITY;
constexpr double kKlBeta = 0;
constexpr KlEstimator kKlEstimator = KlEstimator::k3;
constexpr bool kKlImportanceWeighted = false;
constexpr double kKlLogRatioClamp = INFINITY;
constexpr double kEntropyCoefficient = 0;
constexpr double kEntropyTopQuantile = 1;
constexpr double kEntropyTokens = NAN;
constexpr double kEntropyThreshold = NAN;
constexpr bool kDropEmptySequences = false;

constexpr Center kCenter = Center::mean;
constexpr Scale kScale = Scale::groupStd;
constexpr double kDdof = 1;
constexpr double kEpsilon = 0.0001;
constexpr double kHadwAnchor = NAN;
constexpr double kHadwScale = 1.3;

constexpr double kTemperature = 1;
constexpr bool kMetrics = true;
constexpr double kLossScale = 1;
constexpr double kMinTemperature = 0.000001;
constexpr double kMinLossScale = 1.1754943508222875e-38;

}  // namespace groupgrad::defaults
