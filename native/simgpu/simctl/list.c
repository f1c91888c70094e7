/* simctl list: cards and who uses them, for people and, as JSON, for tests. */
#include <stdio.h>
#include <stdlib.h>

#include "engine_read.h"
#include "simctl.h"

static double mib(uint64_t bytes) { return (double)bytes / (1024.0 * 1024.0); }

static void pci_address(const sim_card *card, char *text, size_t size) {
  snprintf(text, size, "%04x:%02x:%02x.0", card->pci_domain, card->pci_bus, card->pci_device);
}

static void print_string(const char *text) {
  putchar('"');
  for (; *text != '\0'; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\')
      printf("\\%c", c);
    else if (c < 0x20 || c > 0x7e)
      printf("\\u%04x", c);
    else
      putchar(c);
  }
  putchar('"');
}

static void card_json(const sim_store *store, uint32_t place, uint32_t index, const sim_card *card,
                      const sim_usage *usage, const sim_engine_copy *engine) {
  char pci[32];
  pci_address(card, pci, sizeof pci);
  printf("%s\n  {\"index\": %u, \"minor\": %u, \"model\": ", index > 0 ? "," : "", index, card->minor_number);
  print_string(card->model);
  printf(", \"name\": ");
  print_string(card->name);
  printf(", \"uuid\": ");
  print_string(card->uuid);
  printf(", \"pci\": \"%s\", \"numa_node\": %d, \"memory_bytes\": %llu, \"used_bytes\": %llu, \"peak_bytes\": %llu",
         pci, card->numa_node, (unsigned long long)card->memory_bytes, (unsigned long long)usage->used_bytes,
         (unsigned long long)usage->peak_bytes);
  printf(", \"context_overhead_bytes\": %llu, \"busy_ns\": %llu, \"retired_gpu_time_ns\": %llu, \"mig\": ",
         (unsigned long long)card->context_overhead_bytes, (unsigned long long)engine->engine->busy_ns,
         (unsigned long long)sim_copy_retired(engine, store));
  mig_json(store, card, place);
  printf(", \"time_slice_ns\": %llu, \"mps\": %s", (unsigned long long)engine->engine->time_slice_ns,
         engine->engine->mps != 0 ? "true" : "false");
  printf(", \"processes\": [");
  for (uint32_t i = 0; i < usage->process_count; i++) {
    const sim_process *process = &usage->processes[i];
    printf("%s\n   {\"pid\": %d, \"command\": ", i > 0 ? "," : "", (int)process->pid);
    print_string(process->command);
    printf(", ");
    mig_process_json(store, card, place, process->instance);
    printf(", \"used_bytes\": %llu, \"contexts\": %llu, \"launches\": %llu, \"gpu_time_ns\": %llu}",
           (unsigned long long)process->use.used_bytes, (unsigned long long)process->use.contexts,
           (unsigned long long)process->use.launches, (unsigned long long)sim_copy_gpu_time(engine, process->identity));
  }
  printf("]}");
}

static void card_text(const sim_store *store, uint32_t place, uint32_t index, const sim_card *card,
                      const sim_usage *usage) {
  char pci[32];
  pci_address(card, pci, sizeof pci);
  printf("%3u  %-24s  %s  numa %2d  %9.0f / %.0f MiB\n     %s\n", index, card->name, pci, card->numa_node,
         mib(usage->used_bytes), mib(card->memory_bytes), card->uuid);
  mig_text(store, card, place);
  for (uint32_t i = 0; i < usage->process_count; i++)
    printf("       pid %-8d %-20s %9.0f MiB  %llu launches\n", (int)usage->processes[i].pid,
           usage->processes[i].command, mib(usage->processes[i].use.used_bytes),
           (unsigned long long)usage->processes[i].use.launches);
}

static sim_status open_node(const char *root, sim_store *store, sim_node *node) {
  sim_status status = sim_store_open(store, root, false);
  return status == SIM_OK ? sim_store_node(store, node) : status;
}

int simctl_list(const char *root, bool json) {
  static sim_process processes[SIM_MAX_SLOTS];
  sim_store store;
  sim_node node;
  sim_status status = open_node(root, &store, &node);
  if (status != SIM_OK) return simctl_fail_status(root, status);
  if (json)
    printf("{\"driver_version\": \"%s\", \"cuda_version\": %u, \"cards\": [", node.driver_version, node.cuda_version);
  else
    printf("simulated driver %s, CUDA %u.%u\n", node.driver_version, node.cuda_version / 1000,
           node.cuda_version % 1000 / 10);
  for (uint32_t i = 0; i < node.card_count; i++) {
    sim_usage usage = {.processes = processes};
    sim_engine_copy engine;
    status = sim_usage_read(&store, node.index[i], &usage);
    if (status == SIM_OK) status = sim_engine_read(&store, node.index[i], &engine);
    if (status != SIM_OK) return simctl_fail_status(root, status);
    if (json)
      card_json(&store, node.index[i], i, &node.cards[i], &usage, &engine);
    else
      card_text(&store, node.index[i], i, &node.cards[i], &usage);
    sim_engine_forget(&engine);
  }
  if (json) puts("\n]}");
  return SIMCTL_OK;
}

int simctl_names(const char *root) {
  sim_store store;
  sim_node node;
  sim_status status = open_node(root, &store, &node);
  if (status != SIM_OK) return simctl_fail_status(root, status);
  for (uint32_t i = 0; i < node.card_count; i++) {
    printf("GPU %u: %s (UUID: %s)\n", i, node.cards[i].name, node.cards[i].uuid);
    mig_text(&store, &node.cards[i], node.index[i]);
  }
  return SIMCTL_OK;
}
