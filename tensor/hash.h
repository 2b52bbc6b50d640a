/* hash.h -- SHA-256 (FIPS 180-4) and CRC-32 (ISO 3309, as PNG uses it). */
#ifndef TENSOR_HASH_H
#define TENSOR_HASH_H
#include <stddef.h>
#include <stdint.h>

typedef struct { uint32_t h[8]; uint64_t bytes; uint8_t block[64]; } Sha256;
void sha256_begin(Sha256 *s);
void sha256_add(Sha256 *s, const void *bytes, size_t n);
void sha256_end(Sha256 *s, char hex[65]);
uint32_t crc32_of(uint32_t before, const void *bytes, size_t n);     /* before: 0 at the start */
#endif
