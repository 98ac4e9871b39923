/* A training job that never heard of the sentinel: C, no library, two signals.

     cc -O2 -o train train.c && ./train runs/c [STEPS [DIVERGES_AT]]

   It logs train/loss into a TensorBoard event file and keeps its state in checkpoints/checkpoint-STEP.safetensors.
   SIGUSR1 asks for a checkpoint, SIGTERM for a checkpoint and the end. The handlers only set a flag; the work is done
   at a step boundary. A checkpoint is written beside its place and moved there whole.                                */

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t save_now, end_now;

static void on_signal(int signum)
{
    if (signum == SIGUSR1) save_now = 1; else end_now = 1;
}

static uint32_t crc32c(const unsigned char *data, size_t length)
{
    uint32_t crc = 0xFFFFFFFFu;
    while (length--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0x82F63B78u & -(crc & 1));
    }
    return ~crc;
}

static void put_masked_crc(FILE *file, const unsigned char *data, size_t length)
{
    uint32_t crc = crc32c(data, length), masked = (crc >> 15 | crc << 17) + 0xA282EAD8u;
    fwrite(&masked, 4, 1, file);                            /* little-endian machines only, as the format is */
}

/* One record: length, its checksum, an Event{wall_time, step, summary{value{tag, simple_value}}}, its checksum. */
static void log_scalar(FILE *file, const char *tag, uint64_t step, float value)
{
    struct timespec now;
    unsigned char event[128], *at = event;
    size_t name = strlen(tag);
    clock_gettime(CLOCK_REALTIME, &now);
    double wall = now.tv_sec + now.tv_nsec * 1e-9;
    *at++ = 0x09; memcpy(at, &wall, 8); at += 8;
    *at++ = 0x10;
    for (; step >= 128; step >>= 7) *at++ = (unsigned char)(step | 128);
    *at++ = (unsigned char)step;
    *at++ = 0x2A; *at++ = (unsigned char)(name + 9);        /* summary */
    *at++ = 0x0A; *at++ = (unsigned char)(name + 7);        /* value */
    *at++ = 0x0A; *at++ = (unsigned char)name; memcpy(at, tag, name); at += name;
    *at++ = 0x15; memcpy(at, &value, 4); at += 4;
    uint64_t length = (uint64_t)(at - event);
    fwrite(&length, 8, 1, file);
    put_masked_crc(file, (unsigned char *)&length, 8);
    fwrite(event, 1, length, file);
    put_masked_crc(file, event, length);
    fflush(file);                                           /* or the sentinel sees it seconds later */
}

static void save(const char *run, uint64_t step, const float *weights, uint64_t count)
{
    char header[128], path[4096], part[4200];
    uint64_t length = (uint64_t)snprintf(header, sizeof header,
        "{\"weights\":{\"dtype\":\"F32\",\"shape\":[%llu],\"data_offsets\":[0,%llu]}}",
        (unsigned long long)count, (unsigned long long)(4 * count));
    snprintf(path, sizeof path, "%s/checkpoints/checkpoint-%llu.safetensors", run, (unsigned long long)step);
    snprintf(part, sizeof part, "%s.part", path);
    FILE *file = fopen(part, "wb");
    if (file == NULL) { perror(part); return; }
    int whole = fwrite(&length, 8, 1, file) == 1 && fwrite(header, 1, length, file) == length
        && fwrite(weights, 4, count, file) == count && fflush(file) == 0 && fsync(fileno(file)) == 0;
    whole &= fclose(file) == 0;
    if (!whole || rename(part, path) != 0) { perror(path); return; }
    printf("saved %s\n", path);
    fflush(stdout);
}

int main(int count, char **words)
{
    if (count < 2) { fprintf(stderr, "usage: train RUN [STEPS [DIVERGES_AT]]\n"); return 2; }
    uint64_t steps = count > 2 ? strtoull(words[2], NULL, 10) : 100000;
    uint64_t diverges = count > 3 ? strtoull(words[3], NULL, 10) : UINT64_MAX;

    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);                      /* before anything can ask */
    sigaction(SIGTERM, &action, NULL);

    char path[4096];
    mkdir(words[1], 0755);
    snprintf(path, sizeof path, "%s/checkpoints", words[1]);
    if (mkdir(path, 0755) != 0 && errno != EEXIST) { perror(path); return 1; }
    snprintf(path, sizeof path, "%s/events.out.tfevents.%lld.c", words[1], (long long)time(NULL));
    FILE *events = fopen(path, "ab");
    if (events == NULL) { perror(path); return 1; }

    float weights[64] = {0}, loss = 1;
    for (uint64_t step = 1; step <= steps && !end_now; step++) {
        nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
        weights[step % 64] += 0.01f;
        if (step >= diverges && loss < 1e6f) loss *= 2;
        log_scalar(events, "train/loss", step, loss);
        if (save_now || end_now || step % 500 == 0) {
            save_now = 0;
            save(words[1], step, weights, 64);
        }
    }
    return fclose(events) != 0;
}
