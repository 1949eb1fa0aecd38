"""How well it chooses, measured on development data that is not part of the repository. Law: the public API only.

``data`` reads the rows, ``pools`` says which models are offered together, ``asking`` puts the prompts to a real
``Router``, ``unseen`` takes a source out of the shipped priors, ``figures`` and ``tasks`` are the arithmetic, ``page``
writes it down. Neither a row nor a prompt gets into what is written: figures and names of models only.
"""
