/* estimate.h -- how much memory a run will want, from the shapes alone. */
#ifndef REF_ESTIMATE_H
#define REF_ESTIMATE_H
#include "ref/guided.h"
#include "ref/pipeline.h"
#include "ref/pixel_model.h"

/* Bytes resident at most while q runs; W and H of q must be set and the networks built (pipeline_load).  Plans them for this size. */
size_t estimate_generate(Pipeline *p, const PipelineRequest *q);
/* One picture of a guided run: what backward remembers, and the maps that are looked at. */
size_t estimate_guided(Pipeline *p, const GuidedRequest *q);
/* The same for one picture of a pixel-space model, and its classifier.  Plans the network for this size unless it has been read. */
size_t estimate_pixel(PixelModel *p, int W, int H);
#endif
