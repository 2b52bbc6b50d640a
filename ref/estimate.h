/* estimate.h -- how much memory a run will want, from the shapes alone. */
#ifndef REF_ESTIMATE_H
#define REF_ESTIMATE_H
#include "ref/pipeline.h"

/* Bytes resident at most while q runs; W and H of q must be set and the networks built (pipeline_load).  Plans them for this size. */
size_t estimate_generate(Pipeline *p, const PipelineRequest *q);
#endif
