/* The meter's driver: events of the current context. */
#ifndef GUARD_EVENTS_H
#define GUARD_EVENTS_H

#include "meter.h"

extern const meter_driver events_driver;

#endif
