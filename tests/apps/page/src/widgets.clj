(ns widgets)
