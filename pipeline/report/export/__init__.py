"""`ssig export`: a run as tables, LaTeX, figures, a FiftyOne data set, or an entry of an experiment tracker."""
