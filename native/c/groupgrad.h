/* groupgrad's CUDA operations for any language that can call C: advantages (K1), the policy loss over token log-probs
 * (K2), and the loss from logits with its gradient (K3). docs/losses.md has the mathematics.
 *
 * Every operation is enqueued on a CUDA stream and returns at once. It neither allocates nor synchronises and can
 * be captured in a CUDA graph, after one call outside a capture with the same shape, dtype and configuration on the
 * same device: a kernel is loaded, and its launch configuration queried, at first use, which a capture does not
 * allow. Functions may be called from several threads; one workspace serves one stream. Unless stated otherwise a
 * pointer is to memory of the current device, owned by the caller, and must stay valid until the stream has
 * completed the operation. Results are deterministic: the same values in the same places, the same bits.
 *
 * Functions return 0, or an error of groupgrad_status; groupgrad_error() returns its message on the same thread. */
#ifndef GROUPGRAD_H
#define GROUPGRAD_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define GROUPGRAD_EXPORT __attribute__((visibility("default")))

enum groupgrad_status { GROUPGRAD_OK = 0, GROUPGRAD_INVALID = 1, GROUPGRAD_CUDA_ERROR = 2 };

enum groupgrad_center { GROUPGRAD_CENTER_MEAN, GROUPGRAD_CENTER_LEAVE_ONE_OUT, GROUPGRAD_CENTER_NONE };
enum groupgrad_scale {
  GROUPGRAD_SCALE_GROUP_STD,
  GROUPGRAD_SCALE_BATCH_STD,
  GROUPGRAD_SCALE_NONE,
  GROUPGRAD_SCALE_GROUP_MAD
};
enum groupgrad_ratio { GROUPGRAD_RATIO_TOKEN, GROUPGRAD_RATIO_SEQUENCE, GROUPGRAD_RATIO_SEQUENCE_TOKEN };
enum groupgrad_aggregation {
  GROUPGRAD_SEQUENCE_MEAN,
  GROUPGRAD_TOKEN_MEAN,
  GROUPGRAD_SEQUENCE_SUM,
  GROUPGRAD_CONSTANT
};
enum groupgrad_kl { GROUPGRAD_KL_K1, GROUPGRAD_KL_K2, GROUPGRAD_KL_K3 };
enum groupgrad_dtype { GROUPGRAD_FLOAT32, GROUPGRAD_BFLOAT16, GROUPGRAD_FLOAT16 };

/* Surrogates, and what surrogate_parameters holds for each. Infinity switches max and dual off, 1 cispo's low.
 * clip: low, high, max, dual. cispo: high, low. sapo: tau for A > 0, tau for A < 0. gmpo: low, high.
 * vespo: k and lambda for A >= 0, k and lambda for A < 0. reinforce: none. */
enum groupgrad_surrogate {
  GROUPGRAD_CLIP,
  GROUPGRAD_CISPO,
  GROUPGRAD_SAPO,
  GROUPGRAD_GMPO,
  GROUPGRAD_VESPO,
  GROUPGRAD_REINFORCE,
  GROUPGRAD_SURROGATE_COUNT
};

/* Initialise each of these structs with its _init function. It sets every field that has a default in TypeScript to
 * that default (docs/losses.md), optional arrays to null, and all else to 0. */

typedef struct groupgrad_loss_config {
  int32_t ratio;     /* groupgrad_ratio */
  int32_t surrogate; /* groupgrad_surrogate */
  double surrogate_parameters[4];
  int32_t aggregation; /* groupgrad_aggregation */
  int32_t
      drop_empty_sequences;    /* whether a sequence without a masked-in token is left out of the number of sequences */
  double max_length;           /* GROUPGRAD_CONSTANT divides by sequences * max_length; NaN: length */
  double log_ratio_clamp;      /* infinity: off */
  double off_policy_threshold; /* infinity: off */
  double kl_beta;              /* 0: no KL term */
  int32_t kl_estimator;        /* groupgrad_kl */
  int32_t kl_importance_weighted;
  double kl_log_ratio_clamp;  /* infinity: off */
  double entropy_coefficient; /* 0: no entropy term; it needs logits or entropies */
  double top_quantile;        /* 1: every token is kept */
  double entropy_tokens;      /* denominator of the entropy term; NaN: this batch's */
  double entropy_threshold;   /* with top_quantile; NaN: this batch's */
} groupgrad_loss_config;

/* Rewards of groups, and their advantages. NaN means "no verdict". One of rewards and rewards_float32; one of
 * group_size and offsets (groups + 1 rising values, the first 0). */
typedef struct groupgrad_advantage_request {
  const double* rewards;
  const float* rewards_float32;
  int64_t reward_count;
  int64_t groups;
  int64_t group_size;
  const int32_t* offsets;
  int32_t center; /* groupgrad_center */
  int32_t scale;  /* groupgrad_scale */
  double ddof;
  double epsilon;
  int32_t hadw;                 /* whether advantages are weighted (HA-DW, arXiv 2601.08521) */
  double hadw_scale;            /* lambda */
  double dqw_temperature;       /* not 0: of DGPO's question weights (arXiv 2601.20614); excludes hadw */
  double anchor;                /* NaN: the batch's own mean reward */
  const double* anchor_pointer; /* not null: read when the operation runs, instead of anchor */
  float* advantages;            /* out: reward_count */
  float* weights;               /* out: reward_count */
  float* group_mean;            /* out: groups */
  float* group_std;             /* out: groups */
  uint8_t* active;              /* out: groups */
} groupgrad_advantage_request;

/* Arrays of tokens hold sequences * length values, row-major. */
typedef struct groupgrad_policy_request {
  int64_t sequences;
  int64_t length;
  const float* log_probs; /* not used by groupgrad_logits_loss */
  const float* entropies; /* with entropy_coefficient or top_quantile; likewise */
  const float* old_log_probs;
  const float* ref_log_probs; /* with kl_beta */
  const uint8_t* mask;        /* null: every token counts */
  const float* advantages;    /* one per sequence, or one per token; not used where rewards are given */
  int32_t advantages_per_token;
  const float* token_weights;
  double normalizer;       /* token count of the accumulation window; NaN: this batch's */
  double global_sequences; /* likewise */
  groupgrad_loss_config config;
  int32_t metrics;   /* 0: rows that can carry no gradient may stay unread; kl and entropy are not computed over them */
  double loss_scale; /* the gradient is multiplied by it before it is rounded to its type; loss and metrics are not */
  float* grad_log_probs; /* out; null: no gradient; not used by groupgrad_logits_loss */
  float* grad_entropies; /* out; null: not wanted; likewise */
} groupgrad_policy_request;

/* An id outside the vocabulary gives the token a log-prob of NaN, counted in non_finite. */
typedef struct groupgrad_logits_request {
  groupgrad_policy_request policy;
  int64_t vocab;
  int64_t row_stride; /* logits from one row's start to the next */
  int32_t dtype;      /* groupgrad_dtype */
  const void* logits; /* sequences * length * row_stride */
  const int32_t* tokens;
  double temperature;
  void* grad_logits; /* out, in the layout and type of logits; null: no gradient; may be logits */
  int32_t zeroed;    /* grad_logits holds zeros: rows without a gradient are not written */
  float* log_probs;  /* out */
  float* entropies;  /* out, nats */
} groupgrad_logits_request;

/* From the gradient with respect to log-probs and entropies to that with respect to logits, as groupgrad_logits_loss
 * computes it. Per-row arrays hold one value per row. Rows that are masked out or have no gradient are not read. */
typedef struct groupgrad_logits_backward_request {
  int64_t rows;
  int64_t vocab;
  int64_t row_stride; /* logits from one row's start to the next */
  int32_t dtype;      /* groupgrad_dtype */
  const void* logits; /* rows * row_stride */
  const int32_t* tokens;
  double temperature;
  const uint8_t* mask; /* null: every row counts */
  const float* grad_log_probs;
  const float* grad_entropies; /* null: 0 */
  double loss_scale;           /* as in groupgrad_policy_request */
  void* grad_logits;           /* out, in the layout and type of logits; may be logits */
  int32_t zeroed;              /* grad_logits holds zeros: rows without a gradient are not written */
} groupgrad_logits_backward_request;

typedef struct groupgrad_advantage_metrics {
  double accuracy;
  double reward_std;
  double zero_std_fraction;
  double anchor;
  double weight_mean, weight_min, weight_max;
  int64_t non_finite;
} groupgrad_advantage_metrics;

typedef struct groupgrad_loss_metrics {
  double loss;
  double tokens;
  double non_finite;
  double ratio_mean, ratio_min, ratio_max;
  double approx_kl;
  double kl;
  double entropy;
  double clip_low_mean, clip_low_min, clip_high_mean, clip_high_max, clip_region_mean;
  double phi_mean;
} groupgrad_loss_metrics;

GROUPGRAD_EXPORT const char* groupgrad_version(void);
GROUPGRAD_EXPORT const char* groupgrad_error(void);

GROUPGRAD_EXPORT void groupgrad_advantage_request_init(groupgrad_advantage_request* request);
GROUPGRAD_EXPORT void groupgrad_policy_request_init(groupgrad_policy_request* request);
GROUPGRAD_EXPORT void groupgrad_logits_request_init(groupgrad_logits_request* request);
GROUPGRAD_EXPORT void groupgrad_logits_backward_request_init(groupgrad_logits_backward_request* request);

/* Size of an operation's workspace in device memory, or 0 if the request is wrong, as groupgrad_error() explains;
 * the arrays of logits, tokens and results need not be set yet. The caller zeroes the workspace once, before its
 * first use; it may then serve any number of operations that fit, one after another; after an error it must be
 * zeroed again. */
GROUPGRAD_EXPORT size_t groupgrad_advantages_workspace(const groupgrad_advantage_request* request);
GROUPGRAD_EXPORT size_t groupgrad_policy_workspace(const groupgrad_policy_request* request);
GROUPGRAD_EXPORT size_t groupgrad_logits_workspace(const groupgrad_logits_request* request);
GROUPGRAD_EXPORT size_t groupgrad_logits_backward_workspace(const groupgrad_logits_backward_request* request);

/* `metrics` is device memory. `stream` is a cudaStream_t. `rewards` may be null; else the advantages are computed from
 * them in the same call (by groupgrad_policy_loss in the same launch). */
GROUPGRAD_EXPORT int groupgrad_advantages(const groupgrad_advantage_request* request,
                                          groupgrad_advantage_metrics* metrics, void* workspace, size_t workspace_bytes,
                                          void* stream);
GROUPGRAD_EXPORT int groupgrad_policy_loss(const groupgrad_policy_request* request,
                                           const groupgrad_advantage_request* rewards, groupgrad_loss_metrics* metrics,
                                           groupgrad_advantage_metrics* advantage_metrics, void* workspace,
                                           size_t workspace_bytes, void* stream);
GROUPGRAD_EXPORT int groupgrad_logits_loss(const groupgrad_logits_request* request,
                                           const groupgrad_advantage_request* rewards, groupgrad_loss_metrics* metrics,
                                           groupgrad_advantage_metrics* advantage_metrics, void* workspace,
                                           size_t workspace_bytes, void* stream);
/* `non_finite` is device memory: the number of non-finite values among the inputs, and of values that
 * overflowed. */
GROUPGRAD_EXPORT int groupgrad_logits_backward(const groupgrad_logits_backward_request* request, double* non_finite,
                                               void* workspace, size_t workspace_bytes, void* stream);

#if defined(__cplusplus)
}
#endif

#endif
