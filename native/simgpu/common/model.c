#include "model.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MIB (UINT64_C(1) << 20)
#define KIB 1024u
#define NVIDIA_VENDOR 0x10deu

typedef struct model {
  const char *model;
  const char *name;
  const char *vbios;
  const char *part_number;
  uint64_t memory_mib;
  uint32_t pci_device; /* device id */
  uint32_t pci_subsystem;
  uint32_t architecture;
  uint32_t capability; /* 90: 9.0 */
  uint32_t sm_count, cores_per_sm, threads_per_sm, shared_kib_per_sm;
  uint32_t l2_kib, bus_bits, sm_mhz, memory_mhz, power_w, pcie_generation, mig;
} model;

static const model MODELS[] = {
    {"T4",
     "Tesla T4",
     "90.04.A7.00.01",
     "900-2G183-0000-001",
     15360,
     0x1eb8,
     0x12a2,
     6,
     75,
     40,
     64,
     1024,
     64,
     4096,
     256,
     1590,
     5001,
     70,
     3,
     0},
    {"L4",
     "NVIDIA L4",
     "95.04.29.00.06",
     "900-2G193-0000-000",
     23034,
     0x27b8,
     0x16ca,
     8,
     89,
     58,
     128,
     1536,
     100,
     49152,
     192,
     2040,
     6251,
     72,
     4,
     0},
    {"A10",
     "NVIDIA A10",
     "94.02.75.00.06",
     "900-2G133-0000-000",
     23028,
     0x2236,
     0x1482,
     7,
     86,
     72,
     128,
     1536,
     100,
     6144,
     384,
     1695,
     6251,
     150,
     4,
     0},
    {"A30",
     "NVIDIA A30",
     "92.00.66.00.02",
     "900-21001-0040-000",
     24576,
     0x20b7,
     0x1532,
     7,
     80,
     56,
     64,
     2048,
     164,
     24576,
     3072,
     1440,
     1215,
     165,
     4,
     1},
    {"A100-40",
     "NVIDIA A100-SXM4-40GB",
     "92.00.19.00.10",
     "692-2G506-0200-002",
     40960,
     0x20b0,
     0x144e,
     7,
     80,
     108,
     64,
     2048,
     164,
     40960,
     5120,
     1410,
     1215,
     400,
     4,
     1},
    {"A100",
     "NVIDIA A100-SXM4-80GB",
     "92.00.45.00.05",
     "692-2G506-0210-002",
     81920,
     0x20b2,
     0x1463,
     7,
     80,
     108,
     64,
     2048,
     164,
     40960,
     5120,
     1410,
     1593,
     400,
     4,
     1},
    {"H100",
     "NVIDIA H100 80GB HBM3",
     "96.00.61.00.01",
     "692-2G520-0200-000",
     81559,
     0x2330,
     0x16c1,
     9,
     90,
     132,
     128,
     2048,
     228,
     51200,
     5120,
     1980,
     2619,
     700,
     5,
     1},
    {"H200",
     "NVIDIA H200",
     "96.00.99.00.01",
     "692-2G520-0280-000",
     143771,
     0x2335,
     0x18be,
     9,
     90,
     132,
     128,
     2048,
     228,
     61440,
     6144,
     1980,
     3201,
     700,
     5,
     1},
    {"B200",
     "NVIDIA B200",
     "97.00.82.00.18",
     "692-2G525-0220-000",
     183359,
     0x2901,
     0x1999,
     10,
     100,
     148,
     128,
     2048,
     228,
     129024,
     8192,
     1965,
     3996,
     1000,
     5,
     1},
};

static void copy_model(const model *from, sim_card *card) {
  snprintf(card->model, sizeof card->model, "%s", from->model);
  snprintf(card->name, sizeof card->name, "%s", from->name);
  snprintf(card->vbios, sizeof card->vbios, "%s", from->vbios);
  snprintf(card->part_number, sizeof card->part_number, "%s", from->part_number);
  card->memory_bytes = from->memory_mib * MIB;
  card->pci_device_id = from->pci_device << 16 | NVIDIA_VENDOR;
  card->pci_subsystem_id = from->pci_subsystem << 16 | NVIDIA_VENDOR;
  card->architecture = from->architecture;
  card->capability_major = from->capability / 10;
  card->capability_minor = from->capability % 10;
  card->sm_count = from->sm_count;
  card->cores_per_sm = from->cores_per_sm;
  card->threads_per_sm = from->threads_per_sm;
  card->shared_bytes_per_sm = from->shared_kib_per_sm * KIB;
  card->l2_bytes = from->l2_kib * KIB;
  card->memory_bus_bits = from->bus_bits;
  card->sm_clock_mhz = from->sm_mhz;
  card->memory_clock_mhz = from->memory_mhz;
  card->power_limit_mw = from->power_w * 1000u;
  card->pcie_generation = from->pcie_generation;
  card->ecc_supported = 1;
  card->mig_supported = from->mig;
}

int sim_model_fill(const char *model_name, sim_card *card) {
  for (size_t i = 0; i < sizeof MODELS / sizeof *MODELS; i++) {
    if (strcasecmp(MODELS[i].model, model_name) == 0) {
      copy_model(&MODELS[i], card);
      return 0;
    }
  }
  return -1;
}

const char *sim_model_names(void) { return "T4 L4 A10 A30 A100-40 A100 H100 H200 B200"; }
