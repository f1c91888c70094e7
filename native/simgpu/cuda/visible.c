#include "visible.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static uint64_t speed(const sim_card *card) {
  return (uint64_t)card->sm_count * card->cores_per_sm * card->sm_clock_mhz;
}

/* FASTEST_FIRST, the default: CUDA promises only that the first is the fastest; ties stay in PCI order. */
static void fastest_first(const sim_node *node, uint32_t *cards, uint32_t count) {
  for (uint32_t i = 1; i < count; i++) {
    uint32_t card = cards[i];
    uint32_t at = i;
    for (; at > 0 && speed(&node->cards[card]) > speed(&node->cards[cards[at - 1]]); at--) cards[at] = cards[at - 1];
    cards[at] = card;
  }
}

/* The one card whose UUID begins with the item; -1 for none or several. */
static int by_uuid(const sim_node *node, const uint32_t *cards, uint32_t count, const char *item, size_t length) {
  int found = -1;
  for (uint32_t i = 0; i < count; i++) {
    if (strncasecmp(node->cards[cards[i]].uuid, item, length) != 0) continue;
    if (found >= 0) return -1;
    found = (int)i;
  }
  return found;
}

static int by_index(const char *item, size_t length, uint32_t count) {
  uint32_t index = 0;
  for (size_t i = 0; i < length; i++) {
    if (!isdigit((unsigned char)item[i]) || index > SIM_MAX_CARDS) return -1;
    index = index * 10 + (uint32_t)(item[i] - '0');
  }
  return length > 0 && index < count ? (int)index : -1;
}

static int find_item(const sim_node *node, const uint32_t *cards, uint32_t count, const char *item, size_t length) {
  static const char PREFIX[] = "GPU-";
  if (length > strlen(PREFIX) && strncasecmp(item, PREFIX, strlen(PREFIX)) == 0)
    return by_uuid(node, cards, count, item, length);
  return by_index(item, length, count);
}

uint32_t visible_cards(const sim_node *node, const uint32_t *usable, uint32_t count, const char *list,
                       const char *order, uint32_t chosen[SIM_MAX_CARDS]) {
  uint32_t cards[SIM_MAX_CARDS];
  uint32_t number = 0;
  memcpy(cards, usable, count * sizeof *cards);
  if (order == NULL || strcmp(order, "PCI_BUS_ID") != 0) fastest_first(node, cards, count);
  if (list == NULL) {
    memcpy(chosen, cards, count * sizeof *cards);
    return count;
  }
  /* The first item that names no card ends the list; a card named twice makes all of it void. */
  while (number < SIM_MAX_CARDS) {
    list += strspn(list, " \t");
    size_t item = strcspn(list, ",");
    size_t length = item;
    while (length > 0 && isspace((unsigned char)list[length - 1])) length--;
    int found = find_item(node, cards, count, list, length);
    if (found < 0) break;
    for (uint32_t i = 0; i < number; i++)
      if (chosen[i] == cards[found]) return 0;
    chosen[number++] = cards[found];
    if (list[item] == '\0') break;
    list += item + 1;
  }
  return number;
}
